// Command run builds each mutant of the list, runs the test or the drill that has to detect it, and
// prints a table of the results. It is 'make mutants'.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast/test/mutants"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
	}
	os.Exit(code)
}

// run returns exit code 0 when every mutant was detected, 1 when one was not, and 2 when nothing
// was run.
func run(ctx context.Context, args []string, out, progress io.Writer) (int, error) {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(progress)
	only := flags.String("only", "", "names of mutants, with commas; empty: all of them")
	list := flags.Bool("list", false, "print the table without running anything")
	if err := flags.Parse(args); err != nil {
		return 2, nil // Parse has reported it
	}
	if flags.NArg() > 0 {
		return 2, fmt.Errorf("%q is no flag; mutants are chosen by -only name,name", flags.Arg(0))
	}

	chosen, err := choose(*only)
	if err != nil {
		return 2, err
	}

	root, err := findRoot()
	if err != nil {
		return 2, err
	}

	for _, m := range chosen {
		if _, err := m.Broken(root); err != nil {
			return 2, err
		}
	}

	if *list {
		fmt.Fprint(out, table(chosen, nil))
		return 0, nil
	}

	results := map[string]result{}
	code := 0
	for i, m := range chosen {
		fmt.Fprintf(progress, "%d of %d: %s: %s\n", i+1, len(chosen), m.Name, m.ConvictedBy())
		began := time.Now()
		r := try(ctx, root, m)
		if ctx.Err() != nil {
			code = 1
			break
		}
		results[m.Name] = r
		fmt.Fprintf(progress, "\t%s, run %d, %v\n", r, r.runs, time.Since(began).Round(time.Second))
		if !r.convicted {
			code = 1
			fmt.Fprintf(progress, "%s\n", r.said)
		}
	}

	fmt.Fprint(out, table(chosen, results))
	return code, nil
}

// choose returns the mutants with these names.
func choose(names string) ([]mutants.Mutant, error) {
	if names == "" {
		return mutants.Table, nil
	}
	var some []mutants.Mutant
	for name := range strings.SplitSeq(names, ",") {
		m, there := mutants.Named(strings.TrimSpace(name))
		if !there {
			return nil, fmt.Errorf("there is no mutant %q; -list has them all", name)
		}
		some = append(some, m)
	}
	return some, nil
}

// findRoot returns the root of the tree in which the program was started.
func findRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	mod := strings.TrimSpace(string(out))
	if err != nil || mod == "" || mod == os.DevNull {
		return "", errors.New("start it in Holdfast's source tree: there is no go.mod here")
	}
	return filepath.Dir(mod), nil
}

// result is the result of one mutant.
type result struct {
	convicted bool
	runs      int
	how       string // what has detected it, in a few words
	said      string // output of what has not
}

func (r result) String() string {
	if r.convicted {
		return "convicted: " + r.how
	}
	return "SURVIVES"
}

// lastLines is how many lines are shown of what did not detect a mutant.
const lastLines = 30

// try builds a mutant and runs its test or drill until it is detected, at most as often as it may
// take.
func try(ctx context.Context, root string, m mutants.Mutant) (r result) {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return result{said: err.Error()}
	}
	defer os.RemoveAll(dir)
	overlay, err := m.Overlay(root, dir)
	if err != nil {
		return result{said: err.Error()}
	}
	look := byTests
	if m.Fault != "" {
		look = byDrill
	}
	for n := range m.Most() {
		r = look(ctx, root, dir, overlay, m)
		r.runs = n + 1
		if r.convicted || ctx.Err() != nil {
			return r
		}
	}
	lines := strings.Split(strings.TrimSpace(r.said), "\n")
	r.said = strings.Join(lines[max(0, len(lines)-lastLines):], "\n")
	return r
}

// byTests runs the tests of a mutant. A program that cannot be built is not detected, nor do
// failures of other tests count. The tests must also pass in the right program.
func byTests(ctx context.Context, root, dir, overlay string, m mutants.Mutant) result {
	r := runTests(ctx, root, dir, overlay, m.Tests)
	if !r.convicted || ctx.Err() != nil {
		return r
	}
	for range controls {
		if control := runTests(ctx, root, dir, "", m.Tests); !control.convicted || ctx.Err() != nil {
			return r
		}
	}
	return result{said: "the same tests fail in the right program: " + r.how}
}

// controls is how often the tests may run in the right program before they count as failing there.
// A test that depends on the machine's speed may fail once.
const controls = 2

// runTests runs tests with an overlay, or without one if overlay is empty. The result is convicted
// if one of them fails.
func runTests(ctx context.Context, root, dir, overlay string, t mutants.Tests) result {
	binary := filepath.Join(dir, "tests")
	if said, err := command(ctx, root, "go", "test", "-c", "-overlay", overlay, "-o", binary, t.Package); err != nil {
		return result{said: "it cannot be built: " + said}
	}
	pattern := "^(" + t.Run + ")$"
	if strings.Contains(t.Run, "/") {
		pattern = t.Run
	}
	said, err := command(ctx, filepath.Join(root, filepath.FromSlash(t.Package)), binary, "-test.run", pattern, "-test.v", "-test.timeout", "5m")
	if err == nil {
		return result{said: said}
	}
	var failed []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if name, found := strings.CutPrefix(line, "--- FAIL: "); found {
			name, _, _ = strings.Cut(name, " ")
			failed = append(failed, name)
		}
	}
	switch {
	case len(failed) > 0:
		return result{convicted: true, how: failed[0]}
	case strings.Contains(said, "panic: "):
		return result{convicted: true, how: "it panics"}
	}
	return result{said: said}
}

// byDrill runs a drill on a stack of the mutant's own.
func byDrill(ctx context.Context, root, dir, overlay string, m mutants.Mutant) result {
	program := filepath.Join(dir, "holdfast")
	if _, err := os.Stat(program); err != nil {
		if said, err := command(ctx, root, "go", "build", "-overlay", overlay, "-o", program, "./cmd/holdfast"); err != nil {
			return result{said: "it cannot be built: " + said}
		}
	}
	cmd := exec.CommandContext(ctx, program, "drill", "--json", "--own", "--state", filepath.Join(dir, "state"), m.Fault)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it undoes what it broke
	cmd.Dir = dir
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	ended := cmd.Run()
	var v struct {
		Result    string
		Why       []string
		Anomalies []struct{ What, Text string }
	}
	if err := json.Unmarshal(out.Bytes(), &v); err != nil {
		return result{said: fmt.Sprintf("the drill has no verdict: %v: %s", ended, said.String())}
	}
	for _, a := range v.Anomalies {
		if slices.Contains(m.Found, a.What) {
			return result{convicted: true, how: a.What}
		}
	}
	return result{said: v.Result + ": " + strings.Join(v.Why, "; ")}
}

// command runs a program and returns its output.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// table returns the table of docs/drill.md.
func table(all []mutants.Mutant, results map[string]result) string {
	var b strings.Builder
	b.WriteString("| mutant | the rule that is broken | convicted by |")
	if results != nil {
		b.WriteString(" result |")
	}
	b.WriteString("\n| --- | --- | --- |")
	if results != nil {
		b.WriteString(" --- |")
	}
	for _, m := range all {
		rule := m.Rule
		if m.Covered != "" {
			rule += "; with it, since alone it is covered: " + m.Covered
		}
		fmt.Fprintf(&b, "\n| `%s` | %s | %s |", m.Name, rule, m.ConvictedBy())
		if results == nil {
			continue
		}
		switch r, there := results[m.Name]; {
		case !there:
			b.WriteString(" not run |")
		case r.convicted && r.runs > 1:
			fmt.Fprintf(&b, " convicted, in run %d: %s |", r.runs, r.how)
		default:
			fmt.Fprintf(&b, " %s |", r)
		}
	}
	b.WriteString("\n")
	return b.String()
}
