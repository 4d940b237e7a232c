// Package needtest is for tests that need more of a machine than Go: rights, or other programs.
package needtest

import (
	"os"
	"testing"
)

// Skip skips a test that cannot run on this machine, and says why. In continuous integration the test
// fails instead: there everything has to be installed.
func Skip(t *testing.T, why any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// Root skips a test unless root runs it. What it is needed for ends the message.
func Root(t *testing.T, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Skip(t, "needs root, "+what)
	}
}
