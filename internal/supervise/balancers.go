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

// How balancers load a new configuration while they serve. HAProxy's master process starts a new
// worker, which takes over the listeners, and the old worker finishes the requests that it has
// in hand (HAProxy, management guide, section 4).

// reloadLimit is how long a new worker may take to answer.
const reloadLimit = 10 * time.Second

// reload writes the files of a node, has the balancer load them, and waits until the new worker
// has checked every server and serves the nodes that were served before.
func (x *stepper) reload(ctx context.Context, to nodePlan) error {
	s, name := x.sup, x.step.Node
	if s.hosts.isAbsent(to.host) { // the balancer loads the files when its host is back
		return s.putNode(to)
	}

	now := s.balancer(to.process)
	serving := s.servingNodes()
	before, err := now.Info(ctx)
	if st, _ := s.statusBoard.snapshot().Node(name); st.State != Up || err != nil {
		// It does not run now, and will read the files when it starts.
		if err := s.putNode(to); err != nil {
			return err
		}
		// But a balancer that has just started may have read the former files, and one that
		// hangs has.
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

// servingNodes returns the nodes of applications that are up and in rotation at every balancer.
func (s *Supervisor) servingNodes() (names []string) {
	for _, st := range s.statusBoard.snapshot().Nodes {
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

// keepServerStates writes down what a balancer's worker knows of its servers, so that the next
// worker knows which are down or drained. A server that has moved is left out, because its old
// address would take precedence over the configuration's.
func (s *Supervisor) keepServerStates(ctx context.Context, name string, b *haproxy.Client, to nodePlan) error {
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

// forgetServerStates empties that file: a balancer that starts later must not use states of
// today.
func (s *Supervisor) forgetServerStates(to nodePlan) {
	for _, f := range to.files {
		if filepath.Base(f.Path) == plan.ServerStates {
			if err := s.hosts.at(to.host).writeFile(s.ctx, f); err != nil {
				s.log.Error("cannot empty a balancer's file of server states", "error", err)
			}
		}
	}
}

// awaitOldWorkers waits until the workers of earlier configurations have finished their requests
// and their idle clients are gone. It waits for at most drainLimit, or as long as an idle
// connection may last, if that is longer.
func (s *Supervisor) awaitOldWorkers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, max(drainLimit, s.stack().Timeouts.HTTPKeepAlive+time.Second))
	defer cancel()
	poll(ctx, func() bool {
		for _, st := range s.statusBoard.snapshot().Nodes {
			if st.Kind == plan.Balancer && st.State == Up && len(s.home(st.Name).Children(ctx, st.PID)) > 1 {
				return false
			}
		}
		return true
	})
}

// leaveOldMaster closes the connections to Redis that programs have through the workers of
// earlier configurations. These workers no longer check their servers: after a change of the
// master they would keep their clients at the former master. Requests in hand go on.
func (s *Supervisor) leaveOldMaster(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, rotationTimeout)
	defer cancel()
	for _, st := range s.statusBoard.snapshot().Nodes {
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
			if !poll(ctx, func() bool { // HAProxy's master process does not reply while it reloads
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

// checkConfigs has HAProxy check the balancers' configurations of a layout.
func (s *Supervisor) checkConfigs(ctx context.Context, programs map[programAt]string, l layout) error {
	for _, p := range l.host().Processes {
		if p.Kind != plan.Balancer {
			continue
		}
		to, _ := l.nodePlan(p.Node)
		if s.hosts.isAbsent(to.host) {
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

// checkConfig has HAProxy check a configuration. The files that it names may not exist yet, so
// it is checked with copies of them.
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

// withCertificates returns the configuration with one self-signed certificate in the place of
// every list of certificates that does not exist yet. A host gets its lists when its first
// balancer starts, and the list of a new tcp entry comes with the change. certified is the file
// of that certificate, or "" if none is needed.
func (s *Supervisor) withCertificates(ctx context.Context, host home, content string, write func(string) (string, error)) (with, certified string, err error) {
	with = certificateListWord.ReplaceAllStringFunc(content, func(bind string) string {
		name := strings.TrimSuffix(certificateListName.FindString(bind), "'")
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

// checkChange returns why a change could not be made: something that it needs is missing.
func (s *Supervisor) checkChange(ctx context.Context, now, final layout, parts []changePart) error {
	var wrong []error
	for _, e := range CheckReferences(final.stack(), final.baseDir, machine.Variable(s.cfg.Environ, "PATH")) {
		if final.baseDir == now.baseDir && slices.Contains(now.stack().References(), e.Reference) && s.keepsCertificate(e.Reference) {
			continue // the certificate shown now is kept: a failed renewal does not stop a change
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
	for _, part := range parts {
		wrong = append(wrong, s.checkChangePart(ctx, at, part)...)
		at = part.to
	}

	before, after := now.stack().OtherListenAddresses(), final.stack().OtherListenAddresses()
	for _, address := range slices.Sorted(maps.Keys(after)) {
		if before[address] == "" {
			wrong = append(wrong, s.checkFreeBeside(ctx, final.plan, after[address], address)...)
		}
	}

	wrong = append(wrong, s.checkHealth(ctx, now, final)...)
	if len(wrong) > 0 {
		return errors.Join(wrong...)
	}
	return s.checkConfigs(ctx, programs, final)
}

// checkHealth sends the nodes that are up the health check that they are going to have.
// Balancers use the new check before a node has its new process, and would take out a node that
// fails it.
func (s *Supervisor) checkHealth(ctx context.Context, now, final layout) (wrong []error) {
	ctx, cancel := context.WithTimeout(ctx, settingLimit)
	defer cancel()
	for _, st := range s.statusBoard.snapshot().Nodes {
		from, had := now.nodePlan(st.Name)
		to, stays := final.nodePlan(st.Name)
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

// checkChangePart returns why nodes that a part of a change starts, moves or restarts could not
// run.
func (s *Supervisor) checkChangePart(ctx context.Context, now layout, l changePart) (wrong []error) {
	for _, step := range l.steps {
		to, there := l.to.nodePlan(step.Node)
		from, had := now.nodePlan(step.Node)
		if st, _ := s.statusBoard.snapshot().Node(step.Node); st.State == Paused && step.Action != plan.Set {
			wrong = append(wrong, fmt.Errorf("%s is paused; 'holdfast resume %s' first", step.Node, step.Node))
		}

		if !there || !to.process.Kind.Traits().OwnPort() || had && from.process.Address == to.process.Address {
			continue
		}
		// A change has started this process, and the supervisor died before it wrote that down.
		// The process is ended before the change goes on.
		if st, is := s.orphanByAddress[to.process.Address]; is && st.proc.Exit() == "" {
			continue
		}

		if other := now.listener(to); other != "" {
			wrong = append(wrong, fmt.Errorf("%s cannot listen on %s: %s of this stack listens there; have %s move to a free port first, by a change of its own", step.Node, to.process.Address, other, other))
			continue
		}
		if running, _ := s.current(); running.listener(to) != "" {
			continue // that node has left the address when this part begins
		}

		if s.hosts.isAbsent(to.host) {
			continue
		}
		if err := checkFree(ctx, s.hosts.at(to.host), step.Node, to.process.Address); err != nil {
			wrong = append(wrong, err)
		}
	}
	return wrong
}

// checkFree returns an error if an address of a host is in use.
func checkFree(ctx context.Context, host home, what, address string) error {
	if err := host.Free(ctx, address); !errors.Is(err, machine.ErrTaken) {
		return nil // HAProxy itself reports other errors: it may have more rights than the supervisor
	}
	return fmt.Errorf("%s cannot listen on %s: the address is taken%s; free it, or write another one", what, address, host.heldBy(ctx, address))
}

// checkFreeBeside returns why the balancers of a plan could not listen on an address beside the
// entry. An address that they hold themselves is free for them: a change that was stopped may
// have given it to them, and a change that widens an address leaves it with them.
func (s *Supervisor) checkFreeBeside(ctx context.Context, p plan.Plan, what, address string) (wrong []error) {
	for _, h := range p.Hosts {
		host := s.hosts.at(h.Name)
		if len(s.balancersIn(h)) == 0 || s.hosts.isAbsent(h.Name) || !host.Present(ctx) {
			continue
		}
		own, err := s.bindsNow(ctx, host, address)
		if err == nil && !own {
			err = checkFree(ctx, host, what, address)
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

// heldBy returns which process listens on an address, such as " by redis-server (pid 42)", or ""
// if that cannot be seen.
func (h home) heldBy(ctx context.Context, address string) string {
	_, port := splitAddress(address)
	if who := h.Holder(ctx, atoi(port)); who != "" {
		return " by " + who
	}
	return ""
}
