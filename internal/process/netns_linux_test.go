package process

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"holdfast/internal/needtest"
)

// network makes a network namespace for a test and returns its path.
func network(t *testing.T) string {
	t.Helper()
	needtest.Root(t, "to make a network namespace")
	name := fmt.Sprintf("hf-test-%d", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", name).Run() })
	return filepath.Join("/run/netns", name)
}

func TestWhatHappensWithinANetworkLeavesThisProcessWhereItIs(t *testing.T) {
	netns := network(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// The namespace's loopback interface is down, so nothing can be reached there.
	err = Within(netns, func() error {
		_, err := net.Dial("tcp", l.Addr().String())
		return err
	})
	if err == nil {
		t.Error("a listener of this network was reached from within the other one")
	}
	// The namespace that /proc shows for this process stays the same, whichever thread
	// entered the other one.
	before, _ := os.Readlink("/proc/self/ns/net")
	for range 200 {
		if err := Within(netns, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if now, err := os.Readlink("/proc/self/ns/net"); err != nil || now != before {
			t.Fatalf("this process was in %s and is in %s (%v)", before, now, err)
		}
	}
	for range 20 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}

func TestANetworkThatIsNotThereIsSaidSo(t *testing.T) {
	err := Within("/run/netns/holdfast-no-such-thing", func() error { return nil })
	if !errors.Is(err, ErrNoNetwork) {
		t.Errorf("it answers %v, want ErrNoNetwork", err)
	}
}
