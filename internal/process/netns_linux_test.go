package process

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// network makes a network namespace for a test and answers its path.
func network(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root, to make a network namespace")
		}
		t.Skip("needs root, to make a network namespace")
	}
	name := fmt.Sprintf("hf-test-%d", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", name).Run() })
	return filepath.Join("/run/netns", name)
}

func TestAProcessStartsInItsNetworkAndNothingElseIsNew(t *testing.T) {
	netns := network(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	p, err := Start(Spec{
		Path: "/bin/sh", Dir: dir, Log: log, Netns: netns, Env: os.Environ(),
		Args: []string{"-c", "for n in net mnt pid uts; do readlink /proc/self/ns/$n; done; pwd; exec sleep 60"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.SignalGroup(9); <-p.Done() })
	await(t, "its words", func() bool { return strings.Count(read(log), "\n") == 5 })
	words := strings.Fields(read(log))
	for i, n := range []string{"net", "mnt", "pid", "uts"} {
		mine, err := os.Readlink("/proc/self/ns/" + n)
		if err != nil {
			t.Fatal(err)
		}
		if same := words[i] == mine; same == (n == "net") {
			t.Errorf("its namespace %s is %s, and this process' is %s", n, words[i], mine)
		}
	}
	if words[4] != dir {
		t.Errorf("it works in %s, want %s", words[4], dir)
	}
	again, err := Adopt(p.ID())
	if err != nil || again.ID() != p.ID() {
		t.Errorf("it is adopted as %v, %v", again, err)
	}
}

func TestWhatHappensWithinANetworkLeavesThisProcessWhereItIs(t *testing.T) {
	netns := network(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// Its loopback interface is down, so that nothing can be reached there.
	err = Within(netns, func() error {
		_, err := net.Dial("tcp", l.Addr().String())
		return err
	})
	if err == nil {
		t.Error("a listener of this network was reached from within the other one")
	}
	// Nor is it anything else that the process is seen by, on whichever of its
	// threads it was.
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
	_, err := Start(Spec{
		Path: "/bin/true", Log: filepath.Join(t.TempDir(), "log"), Netns: "/run/netns/holdfast-no-such-thing",
	})
	if !errors.Is(err, ErrNoNetwork) {
		t.Errorf("it answers %v, want ErrNoNetwork", err)
	}
}
