package machine_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/machine"
	"holdfast/internal/machine/machinetest"
)

func TestThisMachineIsAMachine(t *testing.T) {
	machinetest.Test(t, func(_ *testing.T, dir string) machine.Machine { return machine.NewLocal(dir) })
}

// smallDisk returns a machine whose state directory is on a disk of its own, of 64 KB.
func smallDisk(t *testing.T) *machine.Local {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k")
	if err != nil {
		t.Skipf("no disk can be mounted: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return machine.NewLocal(dir)
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
	for what, at := range map[string]*machine.Local{"it is there": m, "it is still to be made": machine.NewLocal(m.Path("not", "yet"))} {
		f, err := at.Facts(t.Context())
		if err != nil || f.FreeDisk == 0 || f.FreeDisk > 64<<10 {
			t.Errorf("%s: %+v, %v", what, f, err)
		}
	}
	if err := os.WriteFile(m.Path("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := machine.NewLocal(m.Path("file", "dir")).Facts(t.Context())
	if err != nil || f.DiskError == "" || f.Now == 0 {
		t.Errorf("a directory below a file has a disk: %+v, %v", f, err)
	}
}

// Files that cannot be seen are not reported as missing.
func TestADirectoryThatCannotBeReadIsAnError(t *testing.T) {
	m := machine.NewLocal(t.TempDir())
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
