package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/needtest"
)

// The variables with which a test finds itself inside its network: the name of the test, and the
// program that the test outside has built.
const (
	insideVariable = "HOLDFAST_TEST_INSIDE"
	binaryVariable = "HOLDFAST_TEST_BINARY"
)

// inOwnNetwork runs a test in a network namespace with nothing but a loopback interface. It starts
// this test program again inside. The namespace and all that runs in it are gone afterwards,
// whatever happened.
func inOwnNetwork(t *testing.T, test func()) {
	t.Helper()
	if os.Getenv(insideVariable) == t.Name() {
		test()
		return
	}
	needNetworks(t)
	name := fmt.Sprintf("hf-%d-%d", os.Getpid(), instances.Add(1))
	shell(t, "ip", "netns", "add", name)
	// What the test inside writes goes with it, even if it is killed. It does not use t.TempDir,
	// because the path of a unix socket may only have about a hundred bytes.
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left := endAll(t, name); left > 0 && !t.Failed() {
			t.Errorf("%d processes were left in the network", left)
		}
		shell(t, "ip", "netns", "delete", name)
		os.RemoveAll(dir)
	})
	shell(t, "ip", "-netns", name, "link", "set", "lo", "up")

	cmd := exec.Command("ip", "netns", "exec", name, os.Args[0],
		"-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), insideVariable+"="+t.Name(), binaryVariable+"="+binary, "TMPDIR="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	t.Logf("inside:\n%s", out.Bytes())
	if err != nil || !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		t.Errorf("inside: %v", err)
	}
}

// needNetworks skips a test if no network namespace can be made. In continuous integration it fails
// the test instead.
func needNetworks(t *testing.T) {
	t.Helper()
	why := ""
	if os.Geteuid() != 0 {
		why = "needs root, to make a network namespace"
	}
	for _, program := range []string{"ip", "nft", "ss"} {
		if _, err := exec.LookPath(program); err != nil {
			why = program + " is missing; scripts/setup --test installs it"
		}
	}
	if why != "" {
		needtest.Skip(t, why)
	}
}

// endAll kills what runs in a namespace, and returns how many processes there were.
func endAll(t *testing.T, netns string) (found int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		pids := strings.Fields(shell(t, "ip", "netns", "pids", netns))
		left := 0
		for _, text := range pids {
			if pid, err := strconv.Atoi(text); err == nil && !zombie(pid) {
				syscall.Kill(pid, syscall.SIGKILL)
				left++
			}
		}
		found = max(found, left)
		if left == 0 {
			return found
		}
		if time.Now().After(deadline) {
			t.Errorf("processes in %s do not end: %v", netns, pids)
			return found
		}
	}
}

// shell runs a system command that has to succeed.
func shell(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// dropPackets silently drops packets that match one of the rules (nftables expressions) when they
// arrive, on existing connections as well as on new ones.
func dropPackets(t *testing.T, rules ...string) {
	t.Helper()
	shell(t, "nft", "add table inet cut; add chain inet cut in { type filter hook input priority 0; }")
	for _, r := range rules {
		shell(t, "nft", "add rule inet cut in "+r+" counter drop")
	}
}

// removeCut removes the cut, and checks that every rule of it met a packet.
func removeCut(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(shell(t, "nft", "list", "table", "inet", "cut")) {
		if strings.Contains(line, "counter packets 0 ") {
			t.Errorf("nothing was cut off by %s", strings.TrimSpace(line))
		}
	}
	shell(t, "nft", "delete", "table", "inet", "cut")
}
