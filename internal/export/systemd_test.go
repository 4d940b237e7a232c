package export

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/goldentest"
	"holdfast/internal/needtest"
)

// services has services, by the names of their golden files.
var services = map[string]Service{
	"system.service": {
		Stack: "shop", Program: "/usr/local/bin/holdfast", File: "/etc/holdfast/shop.yaml", Dir: "/etc/holdfast",
		State: "/home/shop/.local/state/holdfast/shop", User: "shop", LowPorts: true, Stop: 75 * time.Second,
	},
	"root.service": {
		Stack: "holdfast", Program: "/usr/local/bin/holdfast", Dir: "/root", State: "/root/.local/state/holdfast/holdfast", User: "root", Stop: time.Minute,
	},
	"host.service": {
		Stack: "shop", Program: "/usr/local/bin/holdfast", Dir: "/home/shop/.local/state/holdfast",
		State: "/home/shop/.local/state/holdfast/shop", User: "shop", Stop: 75 * time.Second, OfSeveral: true, Host: "two",
	},
	"user.service": {
		Stack: "holdfast", Program: "/home/ann/my tools/holdfast", File: `/home/ann/100% "mine"/$HOME.yaml`, Dir: "/home/ann/my shop",
		State: "/home/ann/.local/state/holdfast/holdfast", Path: "/home/ann/.local/bin:/usr/bin:/bin", Stop: time.Minute,
	},
}

func TestUnits(t *testing.T) {
	for name, s := range services {
		goldentest.Check(t, filepath.Join("testdata", name), s.Unit())
	}
}

// Systemd itself verifies the units, here with a program and an account that exist.
func TestSystemdTakesTheUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		needtest.Skip(t, "systemd-analyze is not installed (apt-get install systemd)")
	}
	for name, s := range services {
		dir := t.TempDir()
		s.Program = filepath.Join(dir, "the program")
		if s.File != "" {
			s.File = filepath.Join(dir, filepath.Base(s.File))
		}
		if err := os.WriteFile(s.Program, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		args := []string{"verify", "--man=no"}
		switch s.User {
		case "":
			args = append(args, "--user")
		case "shop":
			s.User = "daemon"
		}
		text := s.Unit()
		path := filepath.Join(dir, UnitName(s.Stack))
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		verify := exec.Command("systemd-analyze", append(args, path)...)
		verify.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
		if out, err := verify.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestUnitName(t *testing.T) {
	if got := UnitName("holdfast") + " " + UnitName("shop"); got != "holdfast.service holdfast-shop.service" {
		t.Error(got)
	}
}
