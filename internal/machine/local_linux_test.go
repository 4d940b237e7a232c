package machine_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/machine"
	"holdfast/internal/machine/machinetest"
)

func TestThisMachineIsAMachine(t *testing.T) {
	machinetest.Test(t, func(_ *testing.T, dir string) machine.Machine { return machine.NewLocal(dir, "") })
}

// smallDisk is a machine whose state directory is on a disk of its own.
func smallDisk(t *testing.T) *machine.Local {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k")
	if err != nil {
		t.Skipf("no disk can be mounted: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return machine.NewLocal(dir, "")
}

func TestAFullDiskLeavesTheFormerFile(t *testing.T) {
	m := smallDisk(t)
	small := machine.File{Name: "f", Mode: 0o600, Content: []byte("kept")}
	if err := m.Write(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	large := machine.File{Name: "f", Mode: 0o600, Content: make([]byte, 1<<20)}
	err := m.Write(t.Context(), large)
	if !errors.Is(err, machine.ErrNoRoom) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), m.Path("f")) {
		t.Errorf("on a full disk: %v", err)
	}
	large.InPlace, large.Name = true, "g"
	if err := m.Write(t.Context(), large); !errors.Is(err, machine.ErrNoRoom) {
		t.Errorf("in its place: %v", err)
	}
	if b, err := m.Read(t.Context(), "f"); err != nil || string(b) != "kept" {
		t.Errorf("read %q, %v", b, err)
	}
	if names, err := m.Glob(t.Context(), ".*"); err != nil || len(names) != 0 {
		t.Errorf("it leaves %q, %v", names, err)
	}
}

func TestTheFreeDiskIsThatOfTheStateDirectory(t *testing.T) {
	m := smallDisk(t)
	for what, at := range map[string]*machine.Local{"it is there": m, "it is still to be made": machine.NewLocal(m.Path("not", "yet"), "")} {
		f, err := at.Facts(t.Context())
		if err != nil || f.FreeDisk == 0 || f.FreeDisk > 64<<10 {
			t.Errorf("%s: %+v, %v", what, f, err)
		}
	}
	if err := os.WriteFile(m.Path("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := machine.NewLocal(m.Path("file", "dir"), "").Facts(t.Context())
	if err != nil || f.DiskError == "" || f.Now == 0 {
		t.Errorf("a directory below a file has a disk: %+v, %v", f, err)
	}
}

// Files that cannot be seen are not taken for files that are not there.
func TestADirectoryThatCannotBeReadIsAnError(t *testing.T) {
	m := machine.NewLocal(t.TempDir(), "")
	if names, err := m.Glob(t.Context(), "nodes/*/x"); err != nil || len(names) > 0 {
		t.Errorf("nothing is there: %v, %v", names, err)
	}
	if err := os.WriteFile(m.Path("nodes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if names, err := m.Glob(t.Context(), "nodes/*/x"); err == nil {
		t.Errorf("a directory that cannot be read has %v", names)
	}
}

func TestAHostWithoutItsNetworkIsAway(t *testing.T) {
	m := machine.NewLocal(t.TempDir(), "/run/netns/holdfast-no-such-thing")
	if m.Present(t.Context()) {
		t.Error("a host whose namespace is gone is there")
	}
	if err := os.Mkdir(m.Path("logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Start(t.Context(), machine.Spec{Node: "x-1", Program: "/bin/true"}); !errors.Is(err, machine.ErrNoNetwork) {
		t.Errorf("a process starts there: %v", err)
	}
	if err := m.Free(t.Context(), "127.0.0.1:0"); !errors.Is(err, machine.ErrNoNetwork) {
		t.Errorf("an address there: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsAskedOfAnotherNamespaceStaysThere(t *testing.T) {
	netns := newNamespace(t)
	m := machine.NewLocal(t.TempDir(), netns)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	if m.Present(t.Context()) {
		t.Error("a host without a link is there")
	}
	if f, err := m.Facts(t.Context()); err != nil || !f.Across {
		t.Errorf("facts %+v, %v", f, err)
	}
	// The port is this namespace's, and the loopback of the other one is down.
	if err := m.Free(t.Context(), l.Addr().String()); errors.Is(err, machine.ErrTaken) {
		t.Errorf("an address that is taken here: %v", err)
	}
	conn, err := m.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Errorf("a connection does not come from here: %v", err)
	} else {
		conn.Close()
	}
}

// newNamespace makes a network namespace for a test, and returns its path.
func newNamespace(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root, to make a network namespace")
		}
		t.Skip("needs root, to make a network namespace")
	}
	name := fmt.Sprintf("hf-machine-%d", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", name).Run() })
	return filepath.Join("/run/netns", name)
}
