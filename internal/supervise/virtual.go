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

// This file is about the virtual address. keepalived moves it; the supervisor tells each
// keepalived, in a health file, whether a balancer of its host serves.

// moveLimit is how long a balancer that is to stop waits for its host to give the virtual
// address away.
const moveLimit = 2 * time.Second

// UnableError is the error of a node that cannot run on its host, and without which the stack
// counts as up.
type UnableError struct{ Node, Why string }

func (e *UnableError) Error() string { return fmt.Sprintf("%s does not run: %s", e.Node, e.Why) }

// healthFiles is what the keepalived nodes are told. It is safe for concurrent use.
type healthFiles struct {
	mu sync.Mutex
	// serves has, by balancer, whether it serves; no entry: unknown.
	serves map[string]bool
	// told has what the health file of each keepalived node says; no entry: unknown. writing has
	// the nodes whose file is being written.
	told    map[string]bool
	writing map[string]bool
	failed  map[string]bool // the last attempt to write it failed
	// files has a lock for each node's file, held from finding out what is true until it is
	// written, so that the last write is the truth.
	files map[string]*sync.Mutex
}

func newHealthFiles() *healthFiles {
	return &healthFiles{serves: map[string]bool{}, told: map[string]bool{}, writing: map[string]bool{}, failed: map[string]bool{}, files: map[string]*sync.Mutex{}}
}

// file returns the lock of a node's file.
func (h *healthFiles) file(node string) *sync.Mutex {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.files[node] == nil {
		h.files[node] = &sync.Mutex{}
	}
	return h.files[node]
}

// note records whether a balancer serves.
func (h *healthFiles) note(balancer string, serves bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serves[balancer] = serves
}

// forget records that nobody knows whether a balancer serves.
func (h *healthFiles) forget(balancer string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.serves, balancer)
}

// healthy reports whether any of the balancers serves, and whether that is known.
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

// begin reports whether the file of a node has to be written. If so, it returns false to other
// callers until end.
func (h *healthFiles) begin(node string, healthy bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if told, known := h.told[node]; h.writing[node] || known && told == healthy {
		return false
	}
	h.writing[node] = true
	return true
}

// end records the result of writing a file. first is true for the first failure in a row.
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

// serves reports whether a balancer serves, and whether that is known: it is not if the
// balancer has not been asked yet, or its host is away.
func (n *node) serves() (yes, known bool) {
	switch {
	case n.notFoundYet:
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

// tellKeepalived tells the keepalived on a balancer's host whether the balancer serves.
func (n *node) tellKeepalived() {
	if n.spec().Kind != plan.Balancer || !n.sup.stack().Entry.Virtual.Enabled() {
		return
	}
	if serves, known := n.serves(); known {
		n.sup.health.note(n.spec().Node, serves)
	} else {
		n.sup.health.forget(n.spec().Node)
	}
	if keeper, balancers := n.sup.keepalivedOf(n.spec().Node); keeper != "" {
		n.sup.tellHealthOf(keeper, balancers)
	}
}

// tellKeepalivedEnded tells the keepalived on a balancer's host at once that the balancer has
// ended.
func (n *node) tellKeepalivedEnded() {
	if n.spec().Kind != plan.Balancer || !n.sup.stack().Entry.Virtual.Enabled() {
		return
	}
	n.sup.health.note(n.spec().Node, false)
	if keeper, balancers := n.sup.keepalivedOf(n.spec().Node); keeper != "" {
		n.sup.tellHealthOf(keeper, balancers)
	}
}

// keepalivedOf returns the keepalived on the host of a node, and the balancers there; empty: there
// is none.
func (s *Supervisor) keepalivedOf(node string) (keeper string, balancers []string) {
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

// tellHealthOf writes a keepalived's health file if it does not say what is true. It does so in
// a goroutine of its own, because the host may be slow or away.
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
			s.tellHealthOf(keeper, balancers) // it may have changed in the meantime
		}
	})
}

// errUnknown is the error of a health file whose content is unknown.
var errUnknown = errors.New("nobody knows whether a balancer of the host serves")

// writeHealth writes the current state into a health file, and returns it.
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

// putHealth writes a health file. On a full disk it overwrites the file in place, which works
// because the content always has the same length.
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

// giveAddressAway makes the host of a balancer that is about to stop give the virtual address
// to another host, unless another balancer of the host serves. It waits for that, for at most
// moveLimit.
func (s *Supervisor) giveAddressAway(ctx context.Context, balancer string) {
	keeper, balancers := s.keepalivedOf(balancer)
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
		st, _ := s.statusBoard.snapshot().Node(keeper)
		if st.PID == 0 {
			return true
		}
		held, err := s.heldAddresses(ctx, *s.node(keeper).spec())
		return err == nil && len(held) == 0
	})
}

// heldAddresses returns the virtual addresses that a keepalived's host has now.
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

// virtualStatus returns which hosts have the virtual addresses.
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

// probeKeepalived checks whether a keepalived works: its main process has a child process that
// does the work, and replaces the child when it dies.
func (s *Supervisor) probeKeepalived(ctx context.Context, p plan.Process, r *probeResult) error {
	st, _ := s.statusBoard.snapshot().Node(p.Node)
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

// prepareKeepalived prepares a host for the start of its keepalived. It returns why keepalived
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
	// The content of the file is out of date.
	_, balancers := s.keepalivedOf(p.Node)
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

// unable returns what a keepalived lacks on its host; empty: nothing.
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

// markUnable makes a node that cannot run on its host wait. Its start is tried again every
// backoffMost.
func (n *node) markUnable(why string) {
	if n.detail != why {
		n.log.Warn("does not run", "why", why)
	}
	n.state, n.detail, n.unable = Failed, why, true
	n.startAt = time.Now().Add(backoffMost)
	n.settle()
}
