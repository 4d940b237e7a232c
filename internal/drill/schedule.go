package drill

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"

	"holdfast/internal/stack"
)

// pool returns the faults to choose from. Unless they are drawn at random, these are the faults of
// every round.
func (c Config) pool() ([]fault, error) {
	var chosen []fault
	for _, name := range c.Faults {
		f, ok := findFault(name, c.Pods != nil)
		if !ok {
			return nil, &UnknownFaultError{name, nearest(name)}
		}
		chosen = append(chosen, f)
	}
	for _, command := range c.Commands {
		chosen = append(chosen, commandFault(command))
	}
	if len(chosen) == 0 {
		chosen, _ = c.defaultFaults()
	}
	return chosen, nil
}

// defaultFaults returns the faults of a drill for which the user named none, and the names of those
// that it leaves out because the stack cannot have them.
func (c Config) defaultFaults() (chosen []fault, left []string) {
	target, _ := c.loadTarget() // Check has reported its error
	afar := c.mayUseUserHosts()
	for _, f := range faults {
		among := f.course
		switch {
		case c.Random:
			among = !f.hosts && !f.disk
		case c.Repeat > 0:
			among = !f.double && !f.hosts && !f.disk
		}
		switch {
		case f.pods != (c.Pods != nil):
		case !among || len(c.URLs) > 0 && f.needs&anyRedis != 0: // see docs/drill.md
		case target.missingFor(c.Stack, f) != "", afar && whyNotOnUserHosts(f) != "":
			left = append(left, f.name)
		default:
			chosen = append(chosen, f)
		}
	}
	return chosen, left
}

// leftOut returns the names of the faults that a drill without named faults leaves out.
func (c Config) leftOut() []string {
	if c.named() {
		return nil
	}
	_, left := c.defaultFaults()
	return left
}

// named reports whether the user named faults or commands.
func (c Config) named() bool { return len(c.Faults)+len(c.Commands) > 0 }

// wrongPlatform returns why a fault does not strike a stack of this kind; empty: it does.
func (c Config) wrongPlatform(f fault) string {
	switch {
	case f.command != "" || f.pods == (c.Pods != nil):
		return ""
	case f.pods:
		return "it strikes a stack in Kubernetes (--kubernetes NAMESPACE --entry URL)"
	}
	return "it strikes processes of a stack that Holdfast itself runs, and this one runs in Kubernetes"
}

// schedule returns the faults of one round.
func (c Config) schedule(round int) ([]fault, error) {
	chosen, err := c.pool()
	if err != nil || !c.Random {
		return chosen, err
	}
	r := rand.New(rand.NewPCG(uint64(c.Seed)+uint64(round), 0))
	var drawn []fault
	for range max(1, int(c.For/eachTakes)) {
		drawn = append(drawn, chosen[r.IntN(len(chosen))])
	}
	return drawn, nil
}

// eachTakes is roughly how long one fault of a random schedule takes.
const eachTakes = 8 * time.Second

// requirements is what faults need the stack to have for itself: hosts, disks of its redis nodes, a
// program file on each host, a clock on each host.
type requirements struct{ hosts, disks, programs, clocks bool }

// any reports whether anything is needed.
func (o requirements) any() bool { return o != requirements{} }

// requirements returns what the faults of all rounds need together: all rounds use one stack.
func (c Config) requirements() (all requirements) {
	chosen, _ := c.pool()
	for _, f := range chosen {
		if c.mayUseUserHosts() && whyNotOnUserHosts(f) == "" {
			continue // it strikes the user's own hosts
		}
		all.hosts = all.hosts || f.hosts
		all.disks = all.disks || f.disk
		all.programs = all.programs || f.programs
		all.clocks = all.clocks || f.clocks
	}
	return all
}

// usualHosts is how many hosts the drill's own stack gets if a fault needs hosts and the stack file
// has none.
const usualHosts = 3

// ownStackSpec returns the description of the stack that the drill stands up for itself.
func (c Config) ownStackSpec(needs requirements) ownStackSpec {
	w := ownStackSpec{text: c.Text, secure: c.Stack.Entry.TLS.Enabled(), disks: needs.disks, programs: needs.programs, clocks: needs.clocks}
	switch n := c.Hosts; {
	case n > 0 || needs.hosts && len(c.Stack.Hosts) == 0:
		for i := range cmp.Or(n, usualHosts) {
			w.hosts = append(w.hosts, stack.Host{Name: fmt.Sprintf("host-%d", i+1)})
		}
	default:
		w.hosts = c.Stack.Hosts
	}
	if len(w.hosts) > 0 {
		w.virtual = c.Stack.Entry.Virtual
	}
	return w
}

// nearest returns the fault that the user most likely meant by a name; empty: no fault is near.
func nearest(name string) string {
	best, least := "", 1+len(name)/3
	for _, f := range faults {
		if d := levenshtein.ComputeDistance(name, f.name); d < least {
			best, least = f.name, d
		}
	}
	if best == "" {
		for _, f := range faults {
			if strings.Contains(f.name, name) {
				return f.name
			}
		}
	}
	return best
}
