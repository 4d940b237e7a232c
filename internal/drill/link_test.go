package drill

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// greetingServer is a server that sends a greeting on each connection and discards what it reads.
func greetingServer(t *testing.T, says string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, says)
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l.Addr().String()
}

func TestALinkCountsEachDirectionByItself(t *testing.T) {
	l, err := newLink("", greetingServer(t, "holdfast"), 0, 1, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	c, err := net.Dial("tcp", l.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, 8)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "holdfast" {
		t.Fatalf("%q, %v", got, err)
	}
	l.stop()
	if _, err := io.WriteString(c, strings.Repeat("kelp", 3)); err != nil {
		t.Fatal(err)
	}
	if err := await(t.Context(), "the bytes that are lost", 5*time.Second, func() bool { return l.count(forth).dropped == 12 }); err != nil {
		t.Error(err)
	}
	if n := l.count(back); n.passed != 8 || n.dropped != 0 || n.again != 1 {
		t.Errorf("on the way back: %+v", n)
	}
}
