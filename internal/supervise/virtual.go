package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// The virtual address. keepalived moves it, and the supervisor tells each keepalived in
// its health file whether a balancer of its host serves.

// moveLimit is how long a balancer that is to stop waits until its host has given the
// virtual address away.
const moveLimit = 2 * time.Second

// UnableError is the error of a node that cannot run on its host, and that the stack is
// up without.
type UnableError struct{ Node, Why string }

func (e *UnableError) Error() string { return fmt.Sprintf("%s does not run: %s", e.Node, e.Why) }

// healthFiles are what the keepalived nodes are told. It is safe for concurrent use.
type healthFiles struct {
	mu sync.Mutex
	// serves is whether a balancer serves; one that is missing: nobody knows yet.
	serves map[string]bool
	// told is what the health file of a keepalived node says; one that is missing: nobody
	// knows. writing are those that are being written.
	told    map[string]bool
	writing map[string]bool
	failed  map[string]bool // the last attempt to write it did
	// files are held while what a file has to say is found out and written, by node: what
	// is written last was true last.
	files map[string]*sync.Mutex
}

func newHealthFiles() *healthFiles {
	return &healthFiles{serves: map[string]bool{}, told: map[string]bool{}, writing: map[string]bool{}, failed: map[string]bool{}, files: map[string]*sync.Mutex{}}
}

// file is the lock of a node's file.
func (h *healthFiles) file(node string) *sync.Mutex {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.files[node] == nil {
		h.files[node] = &sync.Mutex{}
	}
	return h.files[node]
}

// note takes in whether a balancer serves.
func (h *healthFiles) note(balancer string, serves bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serves[balancer] = serves
}

// forget takes in that nobody knows whether a balancer serves.
func (h *healthFiles) forget(balancer string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.serves, balancer)
}

// healthy reports whether any of the balancers serves; not known: nobody knows.
func (h *healthFiles) healthy(balancers []string) (yes, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	known = true
	for _, b := range balancers {
		serves, asked := h.serves[b]
		if serves {
			return true, true
		}
		known = known && asked
	}
	return false, known
}

// begin reports whether the file of a node has to be written, and keeps others from it.
func (h *healthFiles) begin(node string, healthy bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if told, known := h.told[node]; h.writing[node] || known && told == healthy {
		return false
	}
	h.writing[node] = true
	return true
}

// end takes in how a file was written. first is true for the first failure in a row.
func (h *healthFiles) end(node string, healthy bool, err error) (first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writing[node] = false
	first = err != nil && !h.failed[node]
	if h.failed[node] = err != nil; err == nil {
		h.told[node] = healthy
	} else {
		delete(h.told, node)
	}
	return first
}

// serves reports whether a balancer serves; not known: nobody has asked it yet, or its host
// is away.
func (n *node) serves() (yes, known bool) {
	switch {
	case n.unseen:
		return false, false
	case n.proc == nil || !n.killAt.IsZero() || n.want != wantUp:
		return false, true
	case n.state == Up:
		return true, true
	case !n.home().Present(n.sup.ctx):
		return false, false
	}
	adopted := n.began.IsZero()
	return false, !adopted || !n.upSince.IsZero() || !n.hungFrom.IsZero()
}

// tellKeeper has the keepalived on a balancer's host know how the balancer is.
func (n *node) tellKeeper() {
	if n.spec().Kind != plan.Balancer || !n.sup.stack().Entry.Virtual.Enabled() {
		return
	}
	if serves, known := n.serves(); known {
		n.sup.health.note(n.spec().Node, serves)
	} else {
		n.sup.health.forget(n.spec().Node)
	}
	if keeper, balancers := n.sup.keeperOf(n.spec().Node); keeper != "" {
		n.sup.tellHealthOf(keeper, balancers)
	}
}

// tellEnd has the keepalived on a balancer's host know at once that the balancer has ended.
func (n *node) tellEnd() {
	if n.spec().Kind != plan.Balancer || !n.sup.stack().Entry.Virtual.Enabled() {
		return
	}
	n.sup.health.note(n.spec().Node, false)
	if keeper, balancers := n.sup.keeperOf(n.spec().Node); keeper != "" {
		n.sup.tellHealthOf(keeper, balancers)
	}
}

// keeperOf is the keepalived on the host of a node, and the balancers there; empty: there
// is none.
func (s *Supervisor) keeperOf(node string) (keeper string, balancers []string) {
	p := s.Plan()
	host := hostOf(p, node)
	for _, h := range p.Hosts {
		if h.Name != host {
			continue
		}
		for _, process := range h.Processes {
			switch process.Kind {
			case plan.Keepalived:
				keeper = process.Node
			case plan.Balancer:
				balancers = append(balancers, process.Node)
			}
		}
	}
	return keeper, balancers
}

// tellHealthOf writes a keepalived's health file where it says something else than what
// is true, aside: its host may be slow, or away.
func (s *Supervisor) tellHealthOf(keeper string, balancers []string) {
	healthy, known := s.health.healthy(balancers)
	if !known || !s.health.begin(keeper, healthy) {
		return
	}
	s.tasks.Go(func() {
		healthy, err := s.writeHealth(s.ctx, keeper, balancers)
		if s.health.end(keeper, healthy, err) && s.ctx.Err() == nil && !errors.Is(err, errUnknown) {
			s.log.Error("cannot tell keepalived whether the balancer of its host serves", "node", keeper, "serves", healthy, "error", err)
		}
		if err == nil {
			s.log.Info("keepalived is told whether the balancer of its host serves", "node", keeper, "serves", healthy)
			s.tellHealthOf(keeper, balancers) // it may have changed meanwhile
		}
	})
}

// errUnknown is the error of a health file for which nobody knows what to say.
var errUnknown = errors.New("nobody knows whether a balancer of the host serves")

// writeHealth writes what is true now into a health file, and returns it.
func (s *Supervisor) writeHealth(ctx context.Context, keeper string, balancers []string) (healthy bool, err error) {
	file := s.health.file(keeper)
	file.Lock()
	defer file.Unlock()
	healthy, known := s.health.healthy(balancers)
	if !known {
		return false, errUnknown
	}
	return healthy, s.putHealth(ctx, keeper, healthy)
}

// putHealth writes a health file. On a full disk it is written over where it is: what it
// says is of one length.
func (s *Supervisor) putHealth(ctx context.Context, keeper string, healthy bool) error {
	f := machine.File{Name: inHome(keeper, plan.HealthFile), Mode: 0o600, Content: []byte(plan.Unwell)}
	if healthy {
		f.Content = []byte(plan.Well)
	}
	err := s.home(keeper).Write(ctx, f)
	if errors.Is(err, machine.ErrNoRoom) {
		f.InPlace = true
		err = s.home(keeper).Write(ctx, f)
	}
	return err
}

// giveAddressAway has the host of a balancer that is about to stop give the virtual
// address to another host, unless another balancer of the host serves. It waits, for
// moveLimit at most, until that is done.
func (s *Supervisor) giveAddressAway(ctx context.Context, balancer string) {
	keeper, balancers := s.keeperOf(balancer)
	if keeper == "" {
		return
	}
	s.health.note(balancer, false)
	s.tellHealthOf(keeper, balancers)
	if healthy, _ := s.health.healthy(balancers); healthy {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, moveLimit)
	defer cancel()
	poll(ctx, func() bool {
		st, _ := s.board.snapshot().Node(keeper)
		if st.PID == 0 {
			return true
		}
		held, err := s.heldAddresses(ctx, *s.node(keeper).spec())
		return err == nil && len(held) == 0
	})
}

// heldAddresses are the virtual addresses that a keepalived's host has now.
func (s *Supervisor) heldAddresses(ctx context.Context, p plan.Process) (held []string, err error) {
	facts, err := s.home(p.Node).Facts(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range facts.Links {
		for _, a := range l.Addresses {
			if slices.Contains(p.Virtual, a) {
				held = append(held, a)
			}
		}
	}
	return held, nil
}

// virtualStatus is who has the virtual addresses.
func virtualStatus(p plan.Plan, nodes []NodeStatus) (all []VirtualStatus) {
	for _, address := range p.Stack.Entry.Virtual.Bare() {
		v := VirtualStatus{Address: address, Hosts: []string{}}
		for _, n := range nodes {
			if n.Kind == plan.Keepalived && slices.Contains(strings.Fields(n.Holds), address) {
				v.Hosts = append(v.Hosts, n.Host)
			}
		}
		all = append(all, v)
	}
	return all
}

// probeKeepalived sees whether a keepalived works: its main process has a child that
// does, and starts another one when that dies.
func (s *Supervisor) probeKeepalived(ctx context.Context, p plan.Process, r *probeResult) error {
	st, _ := s.board.snapshot().Node(p.Node)
	held, err := s.heldAddresses(ctx, p)
	if err != nil {
		return err
	}
	r.live = true
	if r.role, r.holds = "standby", strings.Join(held, " "); len(held) > 0 {
		r.role = "holder"
	}
	if len(s.home(p.Node).Children(ctx, st.PID)) == 0 {
		return errors.New("its process for VRRP does not run")
	}
	return nil
}

// prepareKeepalived readies a host for the start of its keepalived, and returns why it
// cannot run there; empty: it can.
func (s *Supervisor) prepareKeepalived(ctx context.Context, p plan.Process) string {
	why := s.unable(ctx, p)
	if why != "" {
		return fmt.Sprintf("the virtual address %s does not come to this host: %s. Its balancers answer at its own address; DNS, a cloud's balancer and BGP are other ways to them: docs/hosts.md", strings.Join(p.Virtual, " "), why)
	}
	host := s.home(p.Node)
	for _, name := range plan.VirtualFiles(p.Node) {
		if err := host.Remove(ctx, name); err != nil {
			return err.Error()
		}
	}
	// What the file says is of the time before.
	_, balancers := s.keeperOf(p.Node)
	_, err := s.writeHealth(ctx, p.Node, balancers)
	if errors.Is(err, errUnknown) {
		err = nil
		if !host.has(ctx, inHome(p.Node, plan.HealthFile)) {
			err = s.putHealth(ctx, p.Node, false)
		}
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// unable is what a keepalived lacks on its host; empty: nothing.
func (s *Supervisor) unable(ctx context.Context, p plan.Process) string {
	host := s.home(p.Node)
	path, err := host.findProgram(ctx, p.Program, "")
	if err != nil {
		return err.Error()
	}
	facts, err := host.Facts(ctx)
	if err != nil {
		return err.Error()
	}
	linked := slices.ContainsFunc(facts.Links, func(l machine.Link) bool { return l.Name == p.Interface })
	switch {
	case !facts.SetsAddresses:
		return "only root, or who has CAP_NET_ADMIN and CAP_NET_RAW, may set addresses"
	case p.Interface == "":
		return "no network interface has the address that the stack file gives the host; set entry.virtual.interface"
	case !linked:
		return fmt.Sprintf("there is no network interface %s; write another entry.virtual.interface", p.Interface)
	}
	s.mu.Lock()
	s.programs[programAt{hostOf(s.plan, p.Node), p.Program}] = path
	s.mu.Unlock()
	return ""
}

// cannot has a node wait that cannot run on its host. It is tried again now and then.
func (n *node) cannot(why string) {
	if n.detail != why {
		n.log.Warn("does not run", "why", why)
	}
	n.state, n.detail, n.unable = Failed, why, true
	n.startAt = time.Now().Add(backoffMost)
	n.settle()
}
