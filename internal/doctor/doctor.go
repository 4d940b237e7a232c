// Package doctor judges the state of a stack: facts in, findings out. It is pure.
//
// Judge runs all checks on the Facts and returns a Report. Each check is a function in a file by
// subject: running.go (supervisor and nodes), redis.go (Redis and Sentinels), service.go (web nodes
// and balancers), machine.go, virtual.go.
//
// Package examine gathers the facts. It changes nothing either.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
)

// Level is how much a finding matters.
type Level string

// The levels. An error or a warning needs attention; a note is good to know.
const (
	Error   Level = "error"   // something does not work, or the next fault stops the service
	Warning Level = "warning" // it works now, but not for long or not under a fault
	Note    Level = "note"
)

// rank orders the levels, the worst first.
var rank = map[Level]int{Error: 0, Warning: 1, Note: 2}

// Finding is one thing that is not as it should be.
type Finding struct {
	Level Level `json:"level"`
	// Check is the name of the check that found it.
	Check string `json:"check"`
	// Node is the node that it is about; empty: no single one.
	Node string `json:"node,omitempty"`
	// What is wrong, with the values seen; what it Means; and what to Do.
	What  string `json:"what"`
	Means string `json:"means"`
	Do    string `json:"do"`
}

// Report is the state of a stack.
type Report struct {
	Stack    string    `json:"stack"`
	Findings []Finding `json:"findings"`
	// Checks are the names of all checks that were made.
	Checks []string `json:"checks"`
	Unseen []Unseen `json:"unseen,omitempty"`
}

// NeedsAttention reports whether any finding is more than a note.
func (r Report) NeedsAttention() bool { return r.Count(Error)+r.Count(Warning) > 0 }

// Count returns the number of findings of a level.
func (r Report) Count(l Level) (n int) {
	for _, f := range r.Findings {
		if f.Level == l {
			n++
		}
	}
	return n
}

// check is one of the checks.
type check struct {
	name string
	find func(*findings)
}

// checks are all checks, in the order in which a person would look.
var checks = []check{
	{"supervisor", checkSupervisor},
	{"nodes", checkNodes},
	{"paused", checkPaused},
	{"restarts", checkRestarts},
	{"drill", checkDrill},
	{"changes", checkChanges},
	{"roles", checkRoles},
	{"sentinels", checkSentinels},
	{"epochs", checkEpochs},
	{"replication", checkReplication},
	{"settings", checkSettings},
	{"persistence", checkPersistence},
	{"redis-memory", checkRedisMemory},
	{"in-sync", checkInSync},
	{"rotation", checkRotation},
	{"virtual-address", checkVirtual},
	{"ports", checkPorts},
	{"stack-file", checkStackFile},
	{"files", checkFiles},
	{"releases", checkReleases},
	{"versions", checkVersions},
	{"certificates", checkCertificates},
	{"backup", checkBackup},
	{"disk", checkDisk},
	{"memory", checkMemory},
	{"kernel", checkKernel},
	{"limits", checkLimits},
	{"clocks", checkClocks},
}

// findings collects what one check finds.
type findings struct {
	Facts
	check string
	all   []Finding
}

func (f *findings) add(level Level, node, what, means, do string) {
	f.all = append(f.all, Finding{level, f.check, node, what, means, do})
}

// Judge makes every check, and returns what is wrong, the worst first.
func Judge(facts Facts) Report {
	r := Report{Stack: facts.Stack.Name, Findings: []Finding{}, Unseen: facts.Unseen}
	for _, c := range checks {
		f := &findings{Facts: facts, check: c.name}
		c.find(f)
		r.Findings = append(r.Findings, f.all...)
		r.Checks = append(r.Checks, c.name)
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(rank[a.Level], rank[b.Level]) })
	return r
}

// plural returns a number of things in words: "1 error", "2 errors".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Summary returns the report in one line.
func (r Report) Summary() string {
	if len(r.Findings) == 0 {
		return "nothing is wrong"
	}
	return fmt.Sprintf("%s, %s, %s", plural(r.Count(Error), "error"), plural(r.Count(Warning), "warning"), plural(r.Count(Note), "note"))
}
