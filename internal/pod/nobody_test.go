package pod

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"
)

func TestNobodyServesBehindAService(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()

	here := []string{"127.0.0.1"}
	for what, c := range map[string]struct {
		addresses []string
		err       error
		at        net.Listener
		nobody    bool
	}{
		"a pod takes connections": {here, nil, l, false},
		"a connection is refused": {here, nil, closed, true},
		"there is no such name":   {nil, &net.DNSError{IsNotFound: true}, l, true},
		"the name has no address": {nil, nil, l, true},
		"DNS does not answer":     {nil, &net.DNSError{IsTimeout: true}, closed, false},
		"DNS fails":               {nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true}, closed, false},
		"the time is over":        {nil, context.DeadlineExceeded, closed, false},
	} {
		s := &Services{Lookup: func(context.Context, string) ([]string, error) { return c.addresses, c.err }}
		_, text, err := net.SplitHostPort(c.at.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		port, _ := strconv.Atoi(text)
		if got := s.Nobody(t.Context(), "shop-redis-master", port); got != c.nobody {
			t.Errorf("%s: nobody: %v", what, got)
		}
	}
}

func TestAStreakEndsWithAnotherFinding(t *testing.T) {
	var s Streak
	began := time.Now()
	for _, probe := range []struct {
		at    time.Duration // in seconds
		found bool
		want  time.Duration
	}{
		{0, true, 0}, {1, true, 1}, {2, true, 2},
		{3, false, 0}, {4, true, 0}, {5, true, 1}, {6, false, 0}, {7, true, 0}, {9, true, 2},
		{20, true, 0}, {21, true, 1}, // nobody looked in between
	} {
		if got := s.Lasted(probe.found, began.Add(probe.at*time.Second)); got != probe.want*time.Second {
			t.Errorf("after %d s: %v, want %d s", probe.at, got, probe.want)
		}
	}
}
