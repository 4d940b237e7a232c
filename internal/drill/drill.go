package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/control"
	"holdfast/internal/history"
	"holdfast/internal/load"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// Config describes what to drill, and how.
type Config struct {
	// Stack is the declared stack, and State its state directory. Args are the flags (--state,
	// --file) that make a holdfast command use both.
	Stack stack.Stack
	State string
	Args  []string
	// File is the stack's file; empty for the built-in default stack. Its relative paths start from
	// Base.
	File, Base string
	Self       string // the holdfast program
	// Called is the command by which the user called holdfast. The drill prints it in the commands
	// that it suggests.
	Called string
	// Own makes the drill stand up a stack for itself, from Text: a stack file without name and
	// entry. The drill also does so if a fault needs hosts or disks of its own.
	Own  bool
	Text string
	// Several is true if the stack has several hosts and this machine is one of them.
	Several bool
	// Hosts is the number of hosts of the drill's own stack. 0: the hosts of the stack file if it
	// has any, else three if a fault needs hosts, else none.
	Hosts int
	// App is the application of kind kv to drill. Empty: the only one, or the one that the last
	// route leads to.
	App string
	// URLs are loaded instead of an application of kind kv; see load.URL.
	URLs []load.URL

	Faults []string // by name, in order; empty: the standard course
	// Random draws the faults of each round by Seed, as many as fit into For.
	Random bool
	For    time.Duration
	Seed   int64
	// Repeat is the number of rounds. Each fault of a round is a drill by itself, unless Random is
	// set. 0: one drill with all faults.
	Repeat int
	Mix    Mix
	// Pods is the stack in Kubernetes to drill; nil: a stack that Holdfast itself runs.
	Pods *Pods
	// Commands are the user's own faults, as shell commands. They come after Faults.
	Commands []string
	// TokenFile is the absolute path of the file that Mix.Token was read from.
	TokenFile string

	// Show gets each update for the display; several goroutines call it. Note gets messages that
	// stay visible. Done gets the history and the verdict of each drill. Each of the three may be
	// nil.
	Show func(Update)
	Note func(string)
	Done func(history.History, history.Verdict)
}

// UnknownFaultError reports that there is no fault of that name. Nearest is the likely intended
// name; empty if there is none.
type UnknownFaultError struct{ Name, Nearest string }

func (e *UnknownFaultError) Error() string {
	if e.Nearest != "" {
		return fmt.Sprintf("there is no fault %q; did you mean %s? 'holdfast drill --list' has them all", e.Name, e.Nearest)
	}
	return fmt.Sprintf("there is no fault %q; 'holdfast drill --list' has them all", e.Name)
}

// RightsError reports that this machine, or this user, cannot bring a fault about.
type RightsError struct{ msg string }

func (e *RightsError) Error() string { return e.msg }

// MixError reports that a load is impossible, or too small to prove anything.
type MixError struct{ err error }

func (e *MixError) Error() string { return e.err.Error() }
func (e *MixError) Unwrap() error { return e.err }

// ErrNotRunning is returned if the stack to drill does not run.
var ErrNotRunning = errors.New("the stack does not run")

// Check validates the configuration before anything starts. It returns a RefusedError, RightsError,
// MixError or UnknownFaultError.
func (c Config) Check() error {
	target, err := c.loadTarget()
	if err != nil {
		return err
	}

	chosen, err := c.pool()
	if err != nil {
		return err
	}

	for _, f := range chosen {
		why := c.wrongPlatform(f)
		if why == "" {
			why = target.missingFor(c.Stack, f)
		}
		if why == "" && c.onUserHosts() {
			why = whyNotOnUserHosts(f)
		}
		if why != "" {
			return refusef("%s cannot be brought about: %s; 'holdfast drill --list' explains the faults", f.name, why)
		}
	}

	if kv := c.Stack.Apps[target.app].KV; kv != nil && c.Mix.Token == "" && kv.HasTokens() {
		return refusef("the application %s has tokens: give one that may read and write the keys holdfast-drill:* with --token-file", target.app)
	}
	if c.Pods != nil && c.OnItsOwn() {
		return refusef("the drill stands no stack up in Kubernetes: leave --own and --hosts out")
	}

	mix := c.Mix.withDefaults(len(c.URLs) > 0)
	if err := mix.load(c.URLs, []string{"http://127.0.0.1"}, "drill").Check(); err != nil {
		return &MixError{err}
	}
	if mix.Rate < leastRate {
		return &MixError{fmt.Errorf("a rate of %d operations a second proves nothing: a fault may strike between two of them; %d are the least", mix.Rate, leastRate)}
	}

	if plain := c.Pods != nil || !c.Stack.Entry.TLS.Enabled(); plain {
		for _, u := range c.URLs {
			if u.Secure {
				return &MixError{fmt.Errorf("the URL %s is one of HTTPS, and the entry of the stack speaks plain HTTP, which the drill's clients use: write it with http://", u)}
			}
		}
	}

	needs := c.requirements()
	if needs.any() || c.Hosts > 0 || c.Own && len(c.Stack.Hosts) > 0 {
		if err := hostsPossible(); err != nil {
			return &RightsError{err.Error()}
		}
	}
	if needs.clocks {
		if _, err := clockLibrary(); err != nil {
			return &RightsError{err.Error()}
		}
	}
	return nil
}

// OnItsOwn reports whether the drill stands a stack up for itself.
func (c Config) OnItsOwn() bool {
	return c.Own || c.Hosts > 0 || c.requirements().any()
}

// Run carries out the drills. It undoes what it broke before it returns, however it ends; if this
// process is killed, the undo process undoes it. The error says what kept the drill from running.
// The verdicts go to Config.Done.
func Run(ctx context.Context, c Config) error {
	if err := c.Check(); err != nil {
		return err
	}
	if c.Show == nil {
		c.Show = func(Update) {}
	}
	if c.Note == nil {
		c.Note = func(string) {}
	}
	if c.Done == nil {
		c.Done = func(history.History, history.Verdict) {}
	}

	c.Mix = c.Mix.withDefaults(len(c.URLs) > 0)
	if left := c.leftOut(); len(left) > 0 {
		c.Note("left out, since this stack cannot have them: " + strings.Join(left, ", "))
	}
	if own := c.notOnUserHosts(); len(own) > 0 {
		c.Note("on a stack of the drill's own, and not on the one that runs: " + strings.Join(own, ", ") + " cannot be brought about there")
	}

	c.Own = c.OnItsOwn()
	if c.Pods != nil {
		if err := c.requireRights(ctx); err != nil {
			return err
		}
	}

	if !c.Own && c.Pods == nil {
		st, err := control.NewClient(c.State).Status(ctx)
		if errors.Is(err, control.ErrNoSupervisor) {
			return ErrNotRunning
		}
		if err != nil {
			return err
		}
		if !c.Several { // with several hosts, c.Stack is what runs
			if err := c.verifyDeclared(st); err != nil {
				return err
			}
		}
	}

	held, err := takeDrillLock(c)
	if err != nil {
		return err
	}
	defer held.release()

	if !c.Own && c.Several {
		// The check comes after takeDrillLock: if two drills begin at once, each sees the other.
		at, err := control.NewClient(c.State).DrilledAt(ctx)
		if err != nil {
			return err
		}
		if at != "" {
			return fmt.Errorf("another drill of the stack is under way at host %s, and would be blamed for what this one breaks: wait for its end", at)
		}
	}

	j := held.journal
	before := j.checkpoint() // takeDrillLock has reported what is older

	err = c.runOnStack(ctx, j)
	if undone := j.undo(before); undone != nil {
		again := quote.Shell(cmp.Or(c.Called, "holdfast")) + " drill undo"
		if c.Pods != nil {
			again += " --state " + quote.Shell(c.State)
		}
		err = errors.Join(err, fmt.Errorf("%w; '%s' tries again: %w", ErrNotUndone, again, undone))
	}
	return err
}

// runOnStack finds the stack, or stands one up, and runs the drills on it.
func (c Config) runOnStack(ctx context.Context, j *journal) error {
	target, err := c.loadTarget()
	if err != nil {
		return err
	}

	if c.Pods != nil {
		p := newPodStack(c, target)
		return c.runRounds(ctx, p, j)
	}

	var s *supervisedStack
	if c.Own {
		c.Show(Update{Words: "standing a stack up for the drill"})
		s, err = standUp(ctx, c.Self, j, c.ownStackSpec(c.requirements()))
	} else {
		s = &supervisedStack{spec: c.Stack, source: statusSource{endpoints: []endpoint{newEndpoint("", c.State)}}, base: c.Base, self: c.Self, file: c.File}
		if s.onUserHosts = c.Several; s.onUserHosts {
			s.processes = processesOf(c.State)
		}
		err = s.open(ctx)
	}

	if err != nil {
		return err
	}
	defer s.close()
	s.setLoadTarget(target)
	return c.runRounds(ctx, s, j)
}

// ErrNotUndone is part of Run's error if the drill left something broken.
var ErrNotUndone = errors.New("not everything could be undone")

// verifyDeclared returns an error if the running stack is not the declared one: to undo the death
// of its supervisor, the drill would start the declared stack in its place.
func (c Config) verifyDeclared(running supervise.Status) error {
	p, err := supervise.Preview(c.Stack, c.Base, c.State)
	if err != nil {
		return err
	}
	if differences := differ(running, p); len(differences) > 0 {
		file := "the file " + c.File + " declares"
		if c.File == "" {
			file = "the built-in default stack has (no --file was given, and there is no holdfast.yaml here)"
		}
		return fmt.Errorf("the stack that runs is not the one that %s: %s; name the file that it was started with by --file, or make it so by 'holdfast up -d'", file, strings.Join(differences, ", "))
	}
	return nil
}

// differ returns the differences between the running stack and the plan, in words.
func differ(running supervise.Status, p plan.Plan) []string {
	var all []string
	if running.Stack != p.Name {
		all = append(all, fmt.Sprintf("its name is %s, not %s", running.Stack, p.Name))
	}
	if running.Entry != p.EntryURL {
		all = append(all, fmt.Sprintf("its entry is %s, not %s", running.Entry, p.EntryURL))
	}

	planned := map[string]string{}
	for _, h := range p.Hosts {
		for _, n := range h.Processes {
			planned[n.Node] = n.Address
		}
	}

	for _, n := range running.Nodes {
		address, there := planned[n.Name]
		switch {
		case !there:
			all = append(all, fmt.Sprintf("%s runs and is not declared", n.Name))
		case address != n.Address && n.Kind.Traits().OwnPort():
			all = append(all, fmt.Sprintf("%s is at %s, not %s", n.Name, n.Address, address))
		}
		delete(planned, n.Name)
	}

	for _, name := range slices.Sorted(maps.Keys(planned)) {
		all = append(all, fmt.Sprintf("%s is declared and does not run", name))
	}
	return all
}

// runRounds runs the drills one after the other. It stops when the stack is not well after a drill.
func (c Config) runRounds(ctx context.Context, g drilledStack, j *journal) error {
	var elected time.Time // when the master last changed
	for round := range max(1, c.Repeat) {
		chosen, err := c.schedule(round)
		if err != nil {
			return err
		}

		drills := [][]fault{chosen}
		if c.Repeat > 0 && !c.Random {
			drills = slices.Collect(slices.Chunk(chosen, 1))
		}
		for _, some := range drills {
			if some, err = c.possible(ctx, g, some); err != nil {
				return err
			}
			if len(some) == 0 {
				continue
			}

			run := drillRun{stack: g, journal: j, faults: some, mix: c.Mix, tokenFile: c.TokenFile, seed: c.Seed + int64(round), show: c.Show, elected: elected}
			h, err := run.run(ctx)
			if err != nil {
				return err
			}
			elected = run.elected
			h.Repeat = c.repeatCommand(some, run.seed)
			c.Done(h, history.Judge(h))

			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if h.SickAfter != "" {
				return fmt.Errorf("the stack is not well: %s", h.SickAfter)
			}
		}
	}
	return nil
}

// possible returns those faults that the application allows (see fault.ready). If a fault that it
// does not allow was named by the user, the drill is refused; otherwise the fault is left out, with
// a note.
func (c Config) possible(ctx context.Context, g drilledStack, some []fault) (able []fault, err error) {
	for _, f := range some {
		if f.ready != nil {
			fc := &faultContext{mix: c.Mix, prefix: "holdfast-drill:"}
			g.attachTo(fc)
			err = f.ready(ctx, fc)
		}
		switch {
		case err == nil:
			able = append(able, f)
		case len(c.Faults) > 0:
			return nil, refusef("%s cannot be brought about: %w; nothing was broken", f.name, err)
		default:
			c.Note(fmt.Sprintf("left out: %s: %v", f.name, err))
		}
		err = nil
	}
	return able, nil
}

// repeatCommand returns the command line that repeats one drill.
func (c Config) repeatCommand(some []fault, seed int64) string {
	words := []string{quote.Shell(cmp.Or(c.Called, "holdfast")), "drill"}
	if c.Random {
		words = append(words, "--random", "--for", c.For.String())
		words = append(words, c.Faults...)
		for _, command := range c.Commands {
			words = append(words, "--fault-command", quote.Shell(command))
		}
	} else {
		for _, f := range some {
			if f.command != "" {
				words = append(words, "--fault-command", quote.Shell(f.command))
			} else {
				words = append(words, f.name)
			}
		}
	}
	if c.Pods != nil {
		words = append(words, c.Pods.flags()...)
	}

	words = append(words, fmt.Sprintf("--seed %d --rate %d --clients %d", seed, c.Mix.Rate, c.Mix.Clients))
	if len(c.URLs) == 0 {
		words = append(words, fmt.Sprintf("--keys %d", c.Mix.Keys))
	}

	switch {
	case c.Hosts > 0:
		words = append(words, fmt.Sprintf("--hosts %d", c.Hosts))
	case c.Own:
		words = append(words, "--own")
	}

	if c.App != "" {
		words = append(words, "--app", quote.Shell(c.App))
	}
	for _, u := range c.URLs {
		words = append(words, "--url", quote.Shell(u.Words()))
	}
	if c.TokenFile != "" {
		words = append(words, "--token-file", quote.Shell(c.TokenFile))
	}
	for _, arg := range c.Args {
		words = append(words, quote.Shell(arg))
	}
	return strings.Join(words, " ")
}
