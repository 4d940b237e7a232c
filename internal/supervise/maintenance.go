package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/plan"
)

// A host is down for maintenance while somebody works on its machine. Its nodes are stopped in an
// order in which no client notices, and stay down until the host's process starts again. This is
// recorded before anything is stopped, so that the next supervisor knows it.

// maintenanceFile has a hostMaintenance for each host that is down for maintenance.
const maintenanceFile = "resting.json"

// maintenanceEvery is how often the supervisor looks whether a host is back.
const maintenanceEvery = 300 * time.Millisecond

// hostMaintenance is a host that is down for maintenance, or is going down for it.
type hostMaintenance struct {
	// Run identifies the process of the host that is to end: the host is back when it has another
	// one.
	Run string `json:"run"`
	// Nodes are the nodes that were stopped, and are started when the host is back.
	Nodes []string  `json:"nodes"`
	Since time.Time `json:"since"`
	// Done is true once all of them have ended. If the supervisor goes before that, the host comes
	// back at once.
	Done bool `json:"done"`
}

// maintenance has the hosts that are down for maintenance. It is safe for concurrent use.
type maintenance struct {
	mu    sync.Mutex
	hosts map[string]hostMaintenance
}

func (m *maintenance) of(host string) (hostMaintenance, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, is := m.hosts[host]
	return now, is
}

// all returns the hosts that are down for maintenance, sorted by name.
func (m *maintenance) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.hosts))
}

// keeps reports whether a node was stopped for the maintenance of its host.
func (m *maintenance) keeps(node string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, host := range m.hosts {
		if host.Done && slices.Contains(host.Nodes, node) {
			return true
		}
	}
	return false
}

// readMaintenance reads which hosts an earlier supervisor has taken down for maintenance.
func (s *Supervisor) readMaintenance() error {
	var hosts map[string]hostMaintenance
	err := s.dir.readJSON(maintenanceFile, &hosts)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.maintenance.hosts = hosts
	return nil
}

// setMaintenance records that a host is down for maintenance; nil: that it is not.
func (s *Supervisor) setMaintenance(host string, to *hostMaintenance) error {
	s.maintenance.mu.Lock()
	next := maps.Clone(s.maintenance.hosts)
	s.maintenance.mu.Unlock()
	if next == nil {
		next = map[string]hostMaintenance{}
	}
	if delete(next, host); to != nil {
		next[host] = *to
	}
	if err := s.dir.writeJSON(maintenanceFile, next); err != nil {
		return err
	}
	s.maintenance.mu.Lock()
	defer s.maintenance.mu.Unlock()
	s.maintenance.hosts = next
	return nil
}

// UnknownHostError is the error of a request for a host that the stack does not have.
type UnknownHostError struct {
	Host  string
	Hosts []string
}

func (e *UnknownHostError) Error() string {
	if len(e.Hosts) == 0 {
		return fmt.Sprintf("the stack has one host alone, and so none that is called %q", e.Host)
	}
	return fmt.Sprintf("no host is called %q; the hosts are %s", e.Host, strings.Join(e.Hosts, ", "))
}

// Rest stops the nodes of a host, after moving the master and the virtual address to other
// hosts. The nodes stay down until the host's process starts again. If something would stop
// working without the host, Rest returns an error unless anyway is true. It goes on when its
// ctx ends.
func (s *Supervisor) Rest(_ context.Context, host string, anyway bool) error {
	_, err := asTask(s, func() (struct{}, error) { return struct{}{}, s.beginMaintenance(s.ctx, host, anyway) })
	return err
}

func (s *Supervisor) beginMaintenance(ctx context.Context, host string, anyway bool) error {
	if _, is := s.hosts.named[host]; !is || !s.cfg.Several {
		return &UnknownHostError{host, slices.Sorted(maps.Keys(s.hosts.named))}
	}
	if s.stopping.Load() {
		return errStopping
	}
	if s.statusBoard.snapshot().Phase == PhaseStarting {
		return &StartingError{} // what would stop working without the host is not known yet
	}

	if _, err := s.changing.begin("down "+host, ""); err != nil {
		return err
	}
	defer s.changing.end(nil)

	nodes := s.statusBoard.snapshot().Nodes
	before, _ := s.maintenance.of(host)
	if s.isDown(host, before, nodes) { // an earlier call has done it, and the host's process still has to end
		return nil
	}
	if s.hosts.isAbsent(host) {
		return refused("host %s is away, or not well: what runs there cannot be stopped now", host)
	}
	if costs := maintenanceCosts(nodes, host); len(costs) > 0 && !anyway {
		return refused("without host %s %s; mend that first, or use --anyway", host, strings.Join(costs, ", and "))
	}

	entry := hostMaintenance{Run: s.run(host), Since: time.Now().UTC()}
	for _, n := range nodes {
		// Nodes that an earlier call has stopped are also started when the host is back.
		if n.Host == host && (n.State != Down || slices.Contains(before.Nodes, n.Name)) {
			entry.Nodes = append(entry.Nodes, n.Name)
		}
	}

	if err := s.setMaintenance(host, &entry); err != nil {
		return err
	}
	s.log.Info("a host goes down for maintenance", "host", host, "nodes", entry.Nodes)
	err := s.stopHost(ctx, host, entry)
	if errors.Is(err, errUnreached) {
		s.log.Warn("a host was lost while it went down", "host", host)
		return fmt.Errorf("host %s was lost while it went down; its nodes start when it is back", host)
	}
	if err != nil {
		s.log.Warn("a host does not go down", "host", host, "error", err)
		return fmt.Errorf("host %s does not go down, and its nodes come back: %w", host, err)
	}
	entry.Done = true
	return s.setMaintenance(host, &entry)
}

// isDown reports whether a host is down for maintenance, and only its process still has to end.
func (s *Supervisor) isDown(host string, entry hostMaintenance, nodes []NodeStatus) bool {
	runs := func(n NodeStatus) bool { return n.Host == host && n.State != Down }
	return entry.Done && entry.Run == s.run(host) && !slices.ContainsFunc(nodes, runs)
}

// stopHost stops the nodes of a host that goes down for maintenance. It returns errUnreached if the
// host is lost meanwhile, because then nobody can see the nodes end.
func (s *Supervisor) stopHost(ctx context.Context, host string, entry hostMaintenance) error {
	if err := s.leadElsewhere(ctx, host); err != nil {
		return err
	}

	ctx, end := s.whileReached(ctx, s.hosts.at(host))
	defer end()
	for _, names := range s.stopOrder() {
		names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(entry.Nodes, name) })
		failures := await(s.each(names, func(name string) error { return s.send(ctx, name, command{action: ActStop}) }))
		if errors.Is(context.Cause(ctx), errUnreached) || s.hosts.isAbsent(host) {
			return errUnreached
		}
		if err := errors.Join(failures...); err != nil {
			return err
		}
	}
	return nil
}

// leadElsewhere makes a redis node of another host the master.
func (s *Supervisor) leadElsewhere(ctx context.Context, host string) error {
	var heirs []string
	here := false
	for _, n := range s.statusBoard.snapshot().Nodes {
		switch {
		case n.Kind != plan.Redis:
		case n.Host == host:
			here = here || n.Role == "master"
		case n.State == Up:
			heirs = append(heirs, n.Name)
		}
	}
	if !here || len(heirs) == 0 { // without an heir the operator has used --anyway
		return nil
	}
	var failed []error
	for _, heir := range heirs {
		_, err := s.Switchover(ctx, heir)
		if err == nil {
			return nil
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// maintenanceCosts returns, in words, what would not work without a host; empty: nothing.
func maintenanceCosts(nodes []NodeStatus, host string) (costs []string) {
	type group struct {
		kind plan.Kind
		app  string
	}
	here, left, all := map[group]int{}, map[group]int{}, map[group]int{}
	for _, n := range nodes {
		g := group{n.Kind, n.App}
		all[g]++
		switch {
		case n.Host == host:
			here[g]++
		case n.State == Up:
			left[g]++
		}
	}
	for _, g := range slices.SortedFunc(maps.Keys(here), func(a, b group) int {
		return strings.Compare(string(a.kind)+" "+a.app, string(b.kind)+" "+b.app)
	}) {
		switch {
		case g.kind == plan.Balancer && left[g] == 0:
			costs = append(costs, "no balancer is up")
		case g.kind == plan.Web && left[g] == 0:
			costs = append(costs, "no node of the application "+g.app+" is up")
		case g.kind == plan.Redis && left[g] == 0:
			costs = append(costs, "no redis node is up")
		case g.kind == plan.Redis && left[g] == 1 && all[g] > 1:
			costs = append(costs, "the master has no replica, and takes no writes")
		case g.kind == plan.Sentinel && left[g] <= all[g]/2:
			costs = append(costs, fmt.Sprintf("%d of %d Sentinels are up, and no master that dies is replaced", left[g], all[g]))
		}
	}
	return costs
}

// run returns the identifier of a host's process; empty: unknown.
func (s *Supervisor) run(host string) string {
	if s.cfg.Run == nil {
		return ""
	}
	return s.cfg.Run(host)
}

// watchMaintenance starts the nodes of hosts whose process has started again.
func (s *Supervisor) watchMaintenance() {
	for clock.Sleep(s.ctx, maintenanceEvery) {
		for _, host := range s.maintenance.all() {
			if _, ended := s.maintenanceEnded(host); ended && s.hosts.at(host).Present(s.ctx) {
				s.endMaintenance(s.ctx, host)
			}
		}
	}
}

// maintenanceEnded returns the entry of a host that is down for maintenance, and whether its nodes
// are to start again: its process has started again, or the host did not go down completely.
func (s *Supervisor) maintenanceEnded(host string) (hostMaintenance, bool) {
	entry, is := s.maintenance.of(host)
	return entry, is && (!entry.Done || s.run(host) != entry.Run)
}

// endMaintenance starts the nodes of a host that was down for maintenance.
func (s *Supervisor) endMaintenance(ctx context.Context, host string) {
	if s.stopping.Load() {
		return
	}
	if _, err := s.changing.begin("up "+host, ""); err != nil {
		return // the next look tries again
	}
	defer s.changing.end(nil)
	entry, ended := s.maintenanceEnded(host)
	if !ended { // it has gone down completely since the look
		return
	}
	s.log.Info("a host is back from maintenance", "host", host, "nodes", entry.Nodes)
	for _, processes := range stages(s.processes()) {
		var names []string
		for _, p := range processes {
			if slices.Contains(entry.Nodes, p.Node) {
				names = append(names, p.Node)
			}
		}
		failures := await(s.each(names, func(name string) error {
			n := s.node(name)
			limit := startLimit
			if n.spec().Start > 0 {
				limit = n.spec().Start
			}
			return s.bringUp(ctx, n, command{action: ActStart}, limit)
		}))
		if ctx.Err() != nil {
			return
		}
		if err := errors.Join(failures...); err != nil { // the nodes go on trying, as at any start
			s.log.Warn("not all nodes of a host are up", "host", host, "error", err)
		}
	}
	if err := s.setMaintenance(host, nil); err != nil {
		s.log.Error("cannot write down that a host is back", "host", host, "error", err)
	}
}
