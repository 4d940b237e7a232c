package fair

import (
	"fmt"
	"net"
	"testing"
)

func TestSharesLeaveRoomForOthers(t *testing.T) {
	grab := func(s *shares, sender string) (n int) {
		for s.take(sender, 1) {
			n++
		}
		return n
	}
	for _, c := range []struct {
		limit, each, factor int
		want                []int // what senders get that take all they can, one after the other
	}{
		{100, 0, 1, []int{50, 25, 12, 6, 3, 2, 1, 1, 0}},
		{100, 0, 3, []int{75, 18, 5, 1, 1, 0}},
		{100, 30, 1, []int{30, 30, 30, 10, 0}},
		{1, 0, 1, []int{1, 0}},
		{2, 0, 1, []int{1, 1, 0}},
	} {
		s := newShares(c.limit, c.each, c.factor)
		for i, want := range c.want {
			if got := grab(s, fmt.Sprint(i)); got != want {
				t.Errorf("of %+v sender %d gets %d", c, i, got)
			}
		}
		for i, n := range c.want {
			if n > 0 {
				s.leave(fmt.Sprint(i), n)
			}
		}
		if s.inUse() != 0 || len(s.of) != 0 {
			t.Errorf("of %+v %d places are taken in the end, %v", c, s.inUse(), s.of)
		}
	}
}

func TestTheSourceOfAConnection(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1": "127.0.0.1", "::ffff:10.0.0.1": "10.0.0.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "::1": "::",
	} {
		if got := Source(&net.TCPAddr{IP: net.ParseIP(address), Port: 1}); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	if got := Source(&net.UnixAddr{Name: "x"}); got != "" {
		t.Errorf("a unix socket: %s", got)
	}
}
