package isolate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/needtest"
)

func TestACutIsCheckedBeforeItBegins(t *testing.T) {
	other := []netip.Addr{netip.MustParseAddr("198.18.7.2")}
	for _, c := range []struct {
		cut  Cut
		want string // a part of the error; empty: no error
	}{
		{Cut{From: other, Lasts: time.Second}, ""},
		{Cut{Ports: []uint16{80}, Lasts: Longest}, ""},
		{Cut{To: other}, "a cut lasts"},
		{Cut{To: other, Lasts: Longest + 1}, "a cut lasts"},
		{Cut{Lasts: time.Second, Virtual: other}, "a cut of nothing"},
		{Cut{From: []netip.Addr{{}}, Lasts: time.Second}, "no address"},
		{Cut{From: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}, Lasts: time.Second}, "no address"},
		{Cut{From: other, Virtual: []netip.Addr{netip.MustParseAddr("2001:db8::1")}, Lasts: time.Second}, "IPv4"},
	} {
		err := c.cut.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cut, err, c.want)
		}
	}
}

func TestACutWithoutItsProgramIsRefused(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	c, n := Cut{Ports: []uint16{80}, Lasts: time.Second}, NewNetwork("one")
	for _, err := range []error{n.Ready(t.Context(), c), n.Begin(t.Context(), c)} {
		if err == nil || !strings.Contains(err.Error(), "apt-get install nftables") {
			t.Error(err)
		}
	}
}

// inNamespace moves a test to a network namespace of its own, which ends with its thread.
func inNamespace(t *testing.T) {
	needtest.Root(t, "for a network namespace")
	runtime.LockOSThread() // never unlocked, so that the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// arrives reports whether a datagram arrives at an address of this machine.
func arrives(t *testing.T, address string) bool {
	t.Helper()
	to, err := net.ListenPacket("udp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	from, err := net.Dial("udp", to.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	if _, err := fmt.Fprint(from, "hello"); err != nil && !errors.Is(err, unix.EPERM) { // EPERM: the packet was dropped on its way out
		t.Fatal(err)
	}
	to.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_, _, err = to.ReadFrom(make([]byte, 10))
	return err == nil
}

func TestTheKernelEndsACut(t *testing.T) {
	inNamespace(t)
	ctx, n := context.Background(), NewNetwork("one")
	for _, address := range []string{"127.0.0.1", "::1"} {
		for _, c := range []Cut{
			{From: []netip.Addr{netip.MustParseAddr(address)}},
			{To: []netip.Addr{netip.MustParseAddr(address)}},
		} {
			c.Lasts = 400 * time.Millisecond
			if err := n.Ready(ctx, c); err != nil {
				t.Fatal(err)
			}
			if !arrives(t, address) {
				t.Fatalf("%s is not reached before anything is cut", address)
			}
			if err := n.Begin(ctx, c); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if arrives(t, address) && time.Since(began) < c.Lasts {
				t.Errorf("%+v: it is reached", c)
			}
			for !arrives(t, address) {
				if time.Since(began) > 10*time.Second {
					t.Fatalf("%+v does not end", c)
				}
			}
			counts, err := n.Dropped(ctx)
			if err != nil || len(counts) != 1 || counts["from the others"]+counts["to the others"] == 0 {
				t.Errorf("%+v: dropped %v, %v", c, counts, err)
			}
		}
	}
	if err := errors.Join(n.End(ctx), n.End(ctx)); err != nil {
		t.Error(err)
	}
}

func TestWhoMayReachAPort(t *testing.T) {
	inNamespace(t)
	ctx, n := context.Background(), NewNetwork("one")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)

	reached := func() bool {
		conn, err := net.DialTimeout("tcp", l.Addr().String(), 200*time.Millisecond)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}

	self := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	for _, c := range []struct {
		name string
		cut  Cut
		want bool
	}{
		{"a port, from outside", Cut{Ports: []uint16{port}}, true},
		{"a port, also inside", Cut{Ports: []uint16{port}, Inside: true}, false},
		{"a machine", Cut{From: self, To: self}, false},
		{"a machine but for the port", Cut{From: self, To: self, Spared: port}, true},
		{"with virtual addresses", Cut{From: self, Virtual: []netip.Addr{netip.MustParseAddr("198.18.7.100")}}, false},
	} {
		c.cut.Lasts = Longest
		if err := n.Begin(ctx, c.cut); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := reached(); got != c.want {
			t.Errorf("%s is cut: reached %t, want %t", c.name, got, c.want)
		}

		// Another stack does not end this cut.
		if err := NewNetwork("two").End(ctx); err != nil {
			t.Fatal(err)
		}
		if got := reached(); got != c.want {
			t.Errorf("%s is cut, and another stack's cut has ended: reached %t, want %t", c.name, got, c.want)
		}

		if err := n.End(ctx); err != nil {
			t.Fatal(err)
		}
		if !reached() {
			t.Errorf("%s was cut: not reached after its end", c.name)
		}
	}
}

func TestDroppedPacketsAreCountedByDirection(t *testing.T) {
	counts, err := ParseCounters(`{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "bridge", "name": "cut"}},
		{"rule": {"comment": "host-1 to host-2", "expr": [{"match": {}}, {"counter": {"packets": 7, "bytes": 420}}, {"drop": null}]}},
		{"rule": {"comment": "host-2 to host-1", "expr": [{"match": {}}, {"counter": {"packets": 0, "bytes": 0}}, {"drop": null}]}}]}`)
	if err != nil || counts["host-1 to host-2"] != 7 || len(counts) != 2 {
		t.Errorf("the counters are %v (%v)", counts, err)
	}
	if _, err := ParseCounters("no JSON"); err == nil {
		t.Error("what is no JSON has counters")
	}
}
