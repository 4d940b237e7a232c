package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/host"
	"holdfast/internal/identity"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// hostStart is what is known of this host, one of several, before its process begins.
type hostStart struct {
	state string
	self  host.Self
	// stack is the stack file, and base is where its paths start. They are used for the very first
	// start; after that, what runs decides. file is false if there is no file at hand.
	stack stack.Stack
	base  string
	file  bool
	// isFirst is true if this host is to be the first one of the stack.
	isFirst bool
}

// hostWith is findHost for a machine with a pass. If the machine is not a host yet, it becomes the
// host of the pass, and waits for the other hosts to let it in.
func hostWith(ctx context.Context, g *globals, pass, as string) (*hostStart, error) {
	f, err := os.Open(pass)
	if err != nil {
		return nil, usagef("--pass: %w", err)
	}
	defer f.Close()
	p, err := identity.ReadPass(f)
	if err != nil {
		return nil, usagef("--pass %s: %w", quote.Text(pass), err)
	}
	s, base, state, err := locateKeepingPages(g)
	if err != nil {
		return nil, err
	}
	if stackFile(g.file) == "" || s.Name != p.Token.Stack {
		return nil, usagef("--pass %s is for a host of the stack %s: give its stack file with --file", quote.Text(pass), p.Token.Stack)
	}
	if isJoined(state) {
		return findHost(g, cmp.Or(as, p.Token.Host), true)
	}
	release, err := claimHost(state)
	if err != nil {
		return nil, err
	}
	defer release()
	self, err := host.TakeSeat(ctx, state, p, func(text string) { fmt.Fprintf(g.stderr, "Host %s: %s.\n", p.Token.Host, text) })
	if err != nil {
		return nil, err
	}
	return &hostStart{state: state, self: self, stack: s, base: base, file: true}, nil
}

// findHost returns the host that this machine is to be, or nil if the stack has one host only. as
// is the name that the user gave, or "". joined is true if the machine has joined before. Then it
// must not found the stack, and it is an error if its state directory is gone.
func findHost(g *globals, as string, joined bool) (*hostStart, error) {
	s, base, state, err := locateKeepingPages(g)
	if errors.As(err, new(*mistakenFile)) { // a host that has joined works without a file
		if at, is := joinedWithout(g, err); is {
			state, err = at, nil
		}
	}
	if err != nil {
		return nil, err
	}

	start := &hostStart{state: state, stack: s, base: base, file: stackFile(g.file) != ""}
	start.self, err = host.ReadSelf(state)
	switch {
	case err == nil && start.file && s.Name != start.self.Stack:
		return nil, usagef("the state directory %s is that of host %s of the stack %s, and the stack file is that of %s", state, start.self.Name, start.self.Stack, s.Name)
	case err == nil && as != "" && as != start.self.Name:
		return nil, usagef("--as %s: this is host %s of the stack %s, as %s says", as, start.self.Name, start.self.Stack, state)
	case err == nil:
		return start, nil
	case !errors.Is(err, host.ErrNotJoined):
		return nil, err
	case joined:
		who := "a host"
		if as != "" {
			who = "host " + quote.Text(as)
		}
		return nil, usagef("this machine has been %s of a stack, and %s is not the state directory of one: its disk was emptied or is not mounted, or the host was removed. Nothing was started. At another host of the stack, holdfast host replace %s prints the line by which it joins anew (docs/hosts.md)",
			who, state, quote.Text(cmp.Or(as, "NAME")))
	case len(s.Hosts) == 0 && as != "":
		return nil, usagef("--as is for a stack whose file has hosts")
	case len(s.Hosts) == 0:
		return nil, nil
	}

	here, err := whichHost(s, as)
	if err != nil {
		return nil, err
	}

	start.isFirst = true
	start.self = host.Self{Stack: s.Name, Name: here.Name, Address: netip.AddrPortFrom(netip.MustParseAddr(here.Address), host.Port)}
	return start, start.check(g)
}

// joinedWithout returns the state directory of a host whose stack file has mistakes.
func joinedWithout(g *globals, err error) (state string, is bool) {
	var mistaken *mistakenFile
	if !errors.As(err, &mistaken) || g.state == "" && mistaken.name == "" {
		return "", false
	}
	state, stateErr := stateDir(g, mistaken.name)
	if stateErr != nil {
		return "", false
	}
	_, notJoined := host.ReadSelf(state)
	return state, notJoined == nil
}

// whichHost returns the host of a stack file that this machine is.
func whichHost(s stack.Stack, as string) (stack.Host, error) {
	var names, addresses []string
	for _, h := range s.Hosts {
		names = append(names, h.Name)
		addresses = append(addresses, h.Name+" "+h.Address)
		if h.Name == as {
			return h, nil
		}
	}

	if as != "" {
		return stack.Host{}, usagef("--as %s: no host of the stack file is called so; there are %s", as, listed(names))
	}

	own, err := net.InterfaceAddrs()
	if err != nil {
		return stack.Host{}, fmt.Errorf("read the addresses of this machine: %w", err)
	}

	here := slices.DeleteFunc(slices.Clone(s.Hosts), func(h stack.Host) bool {
		return !slices.ContainsFunc(own, func(a net.Addr) bool {
			at, is := a.(*net.IPNet)
			return is && at.IP.Equal(net.ParseIP(h.Address))
		})
	})
	switch len(here) {
	case 1:
		return here[0], nil
	case 0:
		return stack.Host{}, usagef("this machine has none of the hosts' addresses (%s): say which one it is with --as NAME, or correct the stack file", strings.Join(addresses, ", "))
	}

	names = nil
	for _, h := range here {
		names = append(names, h.Name)
	}
	return stack.Host{}, usagef("this machine has the addresses of the hosts %s: say which one it is with --as NAME", listed(names))
}

// check returns an error for a first host that could not begin. It writes nothing.
func (h *hostStart) check(g *globals) error {
	switch up := supervise.Locked(h.state); {
	case up && h.stack.Encrypts():
		return supervise.ErrPlainSoFar
	case up:
		return errors.New("the stack is up on this machine alone: 'holdfast apply' makes the machine the first of its hosts, while the stack serves")
	}
	if last, _, known := supervise.LastFile(h.state); known && len(last.Hosts) == 0 {
		switch runs, err := supervise.Running(h.state); {
		case err != nil:
			return err
		case runs:
			return errors.New("the nodes of the stack run on this machine alone, and no supervisor looks after them: take the hosts out of the stack file, 'holdfast up -d', put them back, and 'holdfast apply' makes the machine the first of its hosts; or take the stack down before, with 'holdfast down'")
		}
	}
	return h.checkPlace(g)
}

// checkPlace returns an error for a first host that could not listen, or whose stack runs
// elsewhere.
func (h *hostStart) checkPlace(g *globals) error {
	var wrong []error
	for _, e := range supervise.CheckReferences(h.stack, h.base, g.getenv("PATH")) {
		wrong = append(wrong, e)
	}
	if len(wrong) > 0 {
		return usageError{errors.Join(wrong...)}
	}
	l, err := net.Listen("tcp", h.self.Address.String())
	if err != nil {
		return fmt.Errorf("host %s cannot listen where the other hosts reach it: %w", h.self.Name, err)
	}
	_ = l.Close()
	return h.checkOthers()
}

// checkOthers returns an error if the stack already runs on other hosts of its file: this machine
// has to join them instead of founding it.
func (h *hostStart) checkOthers() error {
	var mu sync.Mutex
	var met []string
	var asking sync.WaitGroup
	for _, other := range h.stack.Hosts {
		at, err := netip.ParseAddr(other.Address)
		if err != nil || other.Name == h.self.Name {
			continue
		}
		asking.Go(func() {
			if peer, is := host.Meet(context.Background(), at); is && peer.Stack == h.self.Stack {
				mu.Lock()
				defer mu.Unlock()
				met = append(met, peer.Name)
			}
		})
	}
	asking.Wait()
	if len(met) == 0 {
		return nil
	}
	slices.Sort(met)
	return fmt.Errorf("the stack %s is up already, on %s: run 'holdfast host add %s' there ('holdfast host replace %s' if this machine was that host and its disk was emptied), and paste its line here", h.self.Stack, hostNames(met), h.self.Name, h.self.Name)
}

// begin makes this host the first one of the stack if it is to be that. The state directory has to
// be claimed.
func (h *hostStart) begin() error {
	if !h.isFirst {
		return nil
	}
	return host.InitFirst(h.state, h.self.Stack, h.self.Name, h.self.Address, time.Now(), h.others()...)
}

// notJoined returns the hosts of a stack that have not joined, in the order of its file.
func notJoined(s stack.Stack, v host.View) []string {
	joined := map[string]bool{}
	for _, h := range v.Hosts {
		joined[h.Name] = true
	}
	return absentFrom(s, joined)
}

// howToJoin returns how the missing hosts can join.
func howToJoin(names []string) string {
	have, who := "have", hostNames(names)
	if len(names) == 1 {
		have = "has"
	}
	return fmt.Sprintf("%s%s %s not joined: run 'holdfast host add %s' at a host of the stack, and paste its line there", strings.ToUpper(who[:1]), who[1:], have, names[0])
}

// hostNames returns "host two" or "hosts two and three".
func hostNames(names []string) string {
	if len(names) == 1 {
		return "host " + names[0]
	}
	return "hosts " + listed(names)
}

// listed returns "one, two and three".
func listed(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// joinedState returns the state directory of a host of several, for a command without a stack file.
// is is false if there is none. Without --state it is the only such directory of this user.
func joinedState(g *globals) (state string, self host.Self, is bool, err error) {
	if g.state != "" {
		if state, err = filepath.Abs(g.state); err != nil {
			return "", self, false, err
		}
		self, err = host.ReadSelf(state)
		if errors.Is(err, host.ErrNotJoined) {
			return "", self, false, nil
		}
		return state, self, err == nil, err
	}
	usual, err := stateDir(g, stack.Default().Name)
	if err != nil || supervise.HasState(usual) {
		if _, notJoined := host.ReadSelf(usual); err != nil || notJoined != nil {
			return "", self, false, nil // the built-in stack is meant, or its command reports what is wrong
		}
	}
	found, _ := filepath.Glob(filepath.Join(filepath.Dir(usual), "*", host.SelfFile)) // the pattern is valid
	switch len(found) {
	case 0:
		return "", self, false, nil
	case 1:
		state = filepath.Dir(found[0])
		self, err = host.ReadSelf(state)
		return state, self, err == nil, err
	}
	for i := range found {
		found[i] = filepath.Dir(found[i])
	}
	return "", self, false, usagef("this machine is a host of several stacks: name one with --state: %s", strings.Join(found, ", "))
}
