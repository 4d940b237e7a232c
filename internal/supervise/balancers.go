package supervise

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/certificate"
	"holdfast/internal/haproxy"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
)

// How balancers take up another configuration while they serve: the master process
// starts a new worker, which takes over the listeners, and the old worker answers what
// it has in hand (HAProxy, management guide, section 4).

// reloadLimit is how long a new worker may take to answer.
const reloadLimit = 10 * time.Second

// reload has a balancer take up the files of a part.
func (x *stepper) reload(ctx context.Context, to part) error {
	s, name := x.sup, x.step.Node
	if s.hosts.lacks(to.host) { // it takes the files up when its host is back
		return s.putNode(to)
	}
	now := s.balancer(to.process)
	serving := s.servingNodes()
	before, err := now.Info(ctx)
	if st, _ := s.board.snapshot().Node(name); st.State != Up || err != nil {
		// It is not there now, and reads its files when it comes.
		if err := s.putNode(to); err != nil {
			return err
		}
		// One that has just come may have read the former ones, and one that hangs has.
		return s.send(ctx, name, command{action: actReload, spec: &to.process})
	}
	x.touched = true
	if err := s.putNode(to); err != nil {
		return err
	}
	if err := s.keepServerStates(ctx, name, now, to); err != nil {
		x.log.Warn("what the balancer knows of its servers is lost to its new worker", "error", err)
	}
	defer s.forgetServerStates(to)
	if err := s.send(ctx, name, command{action: actReload, spec: &to.process}); err != nil {
		return err
	}
	took := func(ctx context.Context) bool {
		info, err := now.Info(ctx)
		return err == nil && info.PID != before.PID && !info.Stopping
	}
	is := within(ctx, reloadLimit/2, 20*time.Millisecond, took)
	if !is { // a master that has just started may have missed the signal
		if err := s.send(ctx, name, command{action: actReload, spec: &to.process}); err != nil {
			return err
		}
		is = within(ctx, reloadLimit/2, 20*time.Millisecond, took)
	}
	if !is {
		return fmt.Errorf("HAProxy has not taken up its new configuration within %v; 'holdfast logs %s' says why", reloadLimit, name)
	}
	checked := func(ctx context.Context) bool {
		rows, err := now.Stat(ctx)
		return err == nil && !slices.ContainsFunc(rows, func(r haproxy.Stat) bool {
			return r.IsServer() && strings.TrimPrefix(r.CheckStatus, "* ") == "INI"
		})
	}
	if !within(ctx, s.rotationLimit()+rotationTimeout, 20*time.Millisecond, checked) {
		return fmt.Errorf("its new worker has not checked every server after %v", s.rotationLimit())
	}
	for _, node := range serving {
		if err := s.awaitServed(ctx, node); err != nil {
			return fmt.Errorf("%s: %w", node, err)
		}
	}
	return nil
}

// servingNodes are the nodes of applications that are up, and that no balancer has a
// reason to send nothing.
func (s *Supervisor) servingNodes() (names []string) {
	for _, st := range s.board.snapshot().Nodes {
		if st.Kind == plan.Web && st.State == Up && st.Excluded == "" && !s.drained(st.Name) {
			names = append(names, st.Name)
		}
	}
	return names
}

// drained reports whether an operator has taken a node out of rotation.
func (s *Supervisor) drained(node string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.overrides.Drained[node]
}

// keepServerStates writes down what a balancer's worker knows of its servers, for the
// next one: who is down, and who is drained. A server that has moved is left out: its
// old address would win over the configuration's.
func (s *Supervisor) keepServerStates(ctx context.Context, name string, b *haproxy.Client, to part) error {
	states, err := b.ServerStates(ctx)
	if err != nil {
		return err
	}
	config := ""
	for _, f := range to.files {
		if filepath.Base(f.Path) == haproxyConfig {
			config = f.Content
		}
	}
	return s.home(name).Write(ctx, machine.File{Name: inHome(name, plan.ServerStates), Mode: 0o600, Content: []byte(haproxy.KeepStates(states, config))})
}

// forgetServerStates empties the file again: a balancer that starts later must not go
// by what was true now.
func (s *Supervisor) forgetServerStates(to part) {
	for _, f := range to.files {
		if filepath.Base(f.Path) == plan.ServerStates {
			if err := s.hosts.at(to.host).writeFile(s.ctx, f); err != nil {
				s.log.Error("cannot empty a balancer's file of server states", "error", err)
			}
		}
	}
}

// awaitOldWorkers waits until the workers of earlier configurations have answered what they
// had in hand, and their idle clients are gone: for drainLimit at most, or for as long as an
// idle connection may last.
func (s *Supervisor) awaitOldWorkers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, max(drainLimit, s.stack().Timeouts.HTTPKeepAlive+time.Second))
	defer cancel()
	poll(ctx, func() bool {
		for _, st := range s.board.snapshot().Nodes {
			if st.Kind == plan.Balancer && st.State == Up && len(s.home(st.Name).Children(ctx, st.PID)) > 1 {
				return false
			}
		}
		return true
	})
}

// leaveOldMaster closes the connections of programs to Redis that the workers of earlier
// configurations have. They check no server any more: after a change of the master they
// would hold their clients at the former master. Requests that they have in hand go on.
func (s *Supervisor) leaveOldMaster(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, rotationTimeout)
	defer cancel()
	for _, st := range s.board.snapshot().Nodes {
		if st.Kind != plan.Balancer || st.PID == 0 {
			continue
		}
		workers := s.home(st.Name).Children(ctx, st.PID)
		if len(workers) < 2 {
			continue
		}
		info, err := s.balancer(*s.node(st.Name).spec()).Info(ctx)
		if err != nil {
			continue
		}
		for _, pid := range workers {
			if pid == info.PID {
				continue
			}
			socket := inHome(st.Name, plan.MasterSocket)
			old := haproxy.Worker(s.home(st.Name).Path(socket), pid).Via(s.socket(st.Name, socket))
			closed := 0
			if !poll(ctx, func() bool { // the master is not there for a moment when it reloads
				closed, err = old.CloseSessions(ctx, plan.RedisEntry)
				return err == nil
			}) {
				s.log.Warn("a balancer's old worker may hold programs at a former Redis master", "node", st.Name, "pid", pid, "error", err)
			} else if closed > 0 {
				s.log.Info("a balancer's old worker has closed its connections to Redis: the master has changed", "node", st.Name, "pid", pid, "connections", closed)
			}
		}
	}
}

// checkConfigs has HAProxy look at the balancers' configurations.
func (s *Supervisor) checkConfigs(ctx context.Context, programs map[programAt]string, l layout) error {
	for _, p := range l.host().Processes {
		if p.Kind != plan.Balancer {
			continue
		}
		to, _ := l.part(p.Node)
		if s.hosts.lacks(to.host) {
			continue // it is checked when the host is back
		}
		for _, f := range to.files {
			if filepath.Base(f.Path) != haproxyConfig {
				continue
			}
			if err := s.checkConfig(ctx, s.hosts.at(to.host), programs[programAt{to.host, plan.HAProxy}], p.Node, f.Content, to.files); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkConfig has HAProxy look at a configuration. The files that it names may not be there
// yet: it is checked with copies of them.
func (s *Supervisor) checkConfig(ctx context.Context, host home, haproxy, node, content string, files []plan.File) error {
	write := func(content string) (name string, err error) {
		name = strings.Replace(checkedConfigs, "*", rand.Text(), 1) // see home.sweep
		return name, host.Write(ctx, machine.File{Name: name, Mode: 0o600, Content: []byte(content), InPlace: true})
	}
	for _, f := range files {
		word, err := plan.HAProxyWord(host.Path(f.Path))
		if err != nil {
			return err
		}
		if f.Content == "" || !strings.Contains(content, word) || filepath.Base(f.Path) == plan.ServerStates {
			continue
		}
		copied, err := write(f.Content)
		defer func() { _ = host.Remove(s.ctx, copied) }() // one that stays is swept
		if err != nil {
			return err
		}
		copiedWord, err := plan.HAProxyWord(host.Path(copied))
		if err != nil {
			return err
		}
		content = strings.ReplaceAll(content, word, copiedWord)
	}
	content, certified, err := s.withCertificates(ctx, host, content, write)
	if certified != "" {
		defer func() { _ = host.Remove(s.ctx, certified) }()
	}
	if err != nil {
		return err
	}
	name, err := write(content)
	defer func() { _ = host.Remove(s.ctx, name) }()
	if err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, reloadLimit)
	defer cancel()
	out, err := host.Run(ctx, haproxy, "-c", "-f", host.Path(name))
	if err != nil {
		return fmt.Errorf("have HAProxy check the configuration that %s would get: %w", node, err)
	}
	if out.Code != 0 {
		return fmt.Errorf("HAProxy refuses the configuration that %s would get: %s", node, quote.Cut(strings.TrimSpace(string(out.Text)), longDetail))
	}
	return nil
}

// withCertificates is a configuration that shows one certificate for all of the lists which
// are not there yet: a host gets its certificates when its first balancer starts, and those of
// a new tcp entry with the change. certified is the file of that one; empty: none is needed.
func (s *Supervisor) withCertificates(ctx context.Context, host home, content string, write func(string) (string, error)) (with, certified string, err error) {
	with = shownList.ReplaceAllStringFunc(content, func(bind string) string {
		name := strings.TrimSuffix(shownListName.FindString(bind), "'")
		if err != nil || name == "" || host.has(ctx, path.Join(plan.CertificatesDir, name)) {
			return bind
		}
		if certified == "" {
			var pair certificate.Pair
			if pair, err = certificate.SelfSigned([]string{"localhost"}, nil, time.Now()); err == nil {
				certified, err = write(string(pair.PEM))
			}
		}
		word, quoteErr := plan.HAProxyWord(host.Path(certified))
		err = cmp.Or(err, quoteErr)
		return " ssl crt " + word
	})
	return with, certified, err
}

// checkChange reports why a change could not be made: what it needs is not there.
func (s *Supervisor) checkChange(ctx context.Context, now, final layout, legs []leg) error {
	var wrong []error
	for _, e := range CheckReferences(final.stack(), final.baseDir, machine.Variable(s.cfg.Environ, "PATH")) {
		if final.baseDir == now.baseDir && slices.Contains(now.stack().References(), e.Reference) && s.keepsShown(e.Reference) {
			continue // a renewal that went wrong holds nothing up
		}
		wrong = append(wrong, e)
	}
	if len(wrong) > 0 {
		return errors.Join(wrong...)
	}
	if err := s.checkReleases(final.stack(), func(name string) string {
		command := "holdfast rollout " + name
		if was := now.stack().Apps[name]; !slices.Equal(was.Command, final.stack().Apps[name].Command) || was.Dir != final.stack().Apps[name].Dir {
			return fmt.Sprintf("'%s' with --command and --dir brings other files and another command at once", command)
		}
		return fmt.Sprintf("'%s' copies the files anew", command)
	}); err != nil {
		return err
	}
	programs, without := s.findPrograms(ctx, final.plan)
	if err := without.forChange(nil).err(); err != nil {
		return err
	}
	at := now
	for _, leg := range legs {
		wrong = append(wrong, s.checkLeg(ctx, at, leg)...)
		at = leg.to
	}
	before, after := now.stack().BesideEntry(), final.stack().BesideEntry()
	for _, address := range slices.Sorted(maps.Keys(after)) {
		if before[address] == "" {
			wrong = append(wrong, s.takenBeside(ctx, final.plan, after[address], address)...)
		}
	}
	wrong = append(wrong, s.checkHealth(ctx, now, final)...)
	if len(wrong) > 0 {
		return errors.Join(wrong...)
	}
	return s.checkConfigs(ctx, programs, final)
}

// checkHealth asks nodes that are up what the balancers are going to ask them: they do
// so before a node has its new process, and would take it out.
func (s *Supervisor) checkHealth(ctx context.Context, now, final layout) (wrong []error) {
	ctx, cancel := context.WithTimeout(ctx, settingLimit)
	defer cancel()
	for _, st := range s.board.snapshot().Nodes {
		from, had := now.part(st.Name)
		to, stays := final.part(st.Name)
		was, is := from.process.Probe, to.process.Probe
		if st.Kind != plan.Web || st.State != Up || !had || !stays || is.Kind != plan.ProbeHTTP || was.Ready == is.Ready && was.Host == is.Host && was.Proxy == is.Proxy {
			continue
		}
		asked := from.process
		asked.Probe = is
		if err := s.askHealth(ctx, asked, is.Ready); err != nil {
			wrong = append(wrong, fmt.Errorf("apps.%s.health: %s, as it runs now, does not answer the new check (%w), and the balancers would take it out; have the program answer both first", st.App, st.Name, err))
		}
	}
	return wrong
}

// checkLeg looks at the nodes that a leg starts, moves or restarts.
func (s *Supervisor) checkLeg(ctx context.Context, now layout, l leg) (wrong []error) {
	for _, step := range l.steps {
		to, there := l.to.part(step.Node)
		from, had := now.part(step.Node)
		if st, _ := s.board.snapshot().Node(step.Node); st.State == Paused && step.Action != plan.Set {
			wrong = append(wrong, fmt.Errorf("%s is paused; 'holdfast resume %s' first", step.Node, step.Node))
		}
		if !there || !to.process.Kind.Traits().OwnPort() || had && from.process.Address == to.process.Address {
			continue
		}
		// What a change has started, and a supervisor before has not written down, is
		// ended before the change goes on.
		if st, is := s.left[to.process.Address]; is && st.proc.Exit() == "" {
			continue
		}
		if other := now.listener(to); other != "" {
			wrong = append(wrong, fmt.Errorf("%s cannot listen on %s: %s of this stack listens there; have %s move to a free port first, by a change of its own", step.Node, to.process.Address, other, other))
			continue
		}
		if running, _ := s.current(); running.listener(to) != "" {
			continue // that node is gone, or has moved, when this leg begins
		}
		if s.hosts.lacks(to.host) {
			continue
		}
		if err := taken(ctx, s.hosts.at(to.host), step.Node, to.process.Address); err != nil {
			wrong = append(wrong, err)
		}
	}
	return wrong
}

// taken reports that nobody can listen on an address of a host.
func taken(ctx context.Context, host home, what, address string) error {
	if err := host.Free(ctx, address); !errors.Is(err, machine.ErrTaken) {
		return nil // HAProxy itself tells: it may have rights that the supervisor has not
	}
	return fmt.Errorf("%s cannot listen on %s: the address is taken%s; free it, or write another one", what, address, host.heldBy(ctx, address))
}

// takenBeside are why the balancers of a plan could not listen at an address beside the entry.
// What they hold themselves is not taken: a change that was stopped may have given them the
// address, and one that widens an address leaves it with them.
func (s *Supervisor) takenBeside(ctx context.Context, p plan.Plan, what, address string) (wrong []error) {
	for _, h := range p.Hosts {
		host := s.hosts.at(h.Name)
		if len(s.balancersIn(h)) == 0 || s.hosts.lacks(h.Name) || !host.Present(ctx) {
			continue
		}
		own, err := s.bindsNow(ctx, host, address)
		if err == nil && !own {
			err = taken(ctx, host, what, address)
		}
		if err != nil {
			if h.Name != "" {
				err = fmt.Errorf("host %s: %w", h.Name, err)
			}
			wrong = append(wrong, err)
		}
	}
	return wrong
}

// heldBy says who listens on an address, as " by redis-server (pid 42)"; empty: it cannot
// be seen.
func (h home) heldBy(ctx context.Context, address string) string {
	_, port := splitAddress(address)
	if who := h.Holder(ctx, atoi(port)); who != "" {
		return " by " + who
	}
	return ""
}
