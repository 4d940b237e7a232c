package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// Prepare checks everything that can be checked before anything is started, and then writes the
// files of the plan.
func (s *Supervisor) Prepare() (err error) {
	defer func() {
		if err != nil { // the process that started it may have gone, as after an upgrade
			s.log.Error("the supervisor does not start", "why", err)
		}
	}()
	if len(s.cfg.Stack.Hosts) > 1 && !s.cfg.Several {
		return ErrSeveralHosts
	}
	if err := s.checkRoom(); err != nil {
		return err
	}
	var wrong []error
	of, base := s.stack(), s.cfg.BaseDir
	if s.wanted != nil { // the nodes keep running as they are
		of, base = s.wanted.stack(), s.wanted.baseDir
	}
	for _, e := range CheckReferences(of, base, machine.Variable(s.cfg.Environ, "PATH")) {
		if s.keepsCertificate(e.Reference) {
			s.log.Warn("a certificate of the entry is refused, and the one before stays", "why", e)
			continue
		}
		wrong = append(wrong, e)
	}

	// What has run on other hosts may only be missing on this one.
	if s.hosts.begun && len(wrong) > 0 {
		s.log.Warn("what the stack file names is not on this host", "error", errors.Join(wrong...))
	} else if len(wrong) > 0 {
		return errors.Join(wrong...)
	}

	programs, without := s.findPrograms(s.ctx, s.plan)
	if s.programs = programs; s.runsRedis() {
		for _, n := range without {
			s.log.Warn("a node could not be started again", "node", n.node, "why", n.why)
		}
		without = without.besidesRedis()
	}
	switch err := without.err(); {
	case err != nil && s.hosts.begun: // the node's start reports it
		s.log.Warn("a program is missing on a host", "error", err)
	case err != nil && s.wanted == nil:
		return err
	}
	switch err := errors.Join(s.checkAlike(s.ctx), s.checkWriters(s.ctx)); {
	case err != nil && (s.hosts.begun || s.wanted != nil): // the node reports it
		s.log.Warn("a server cannot read a node's data", "error", err)
	case err != nil:
		return err
	}
	if err := s.checkMaster(); err != nil {
		return err
	}
	if err := s.checkAddresses(); err != nil {
		return err
	}
	if err := s.checkWanted(); err != nil {
		return err
	}
	if s.wanted == nil {
		if err := s.prepareReleases(); err != nil {
			return err
		}
	}

	// Nothing is changed until everything has been checked.
	if err := s.beginRewrite(); err != nil {
		return err
	}
	if err := s.writeFiles(); err != nil {
		return err
	}
	if err := s.endRewrite(); err != nil {
		return err
	}
	if err := s.prepareCertificates(); err != nil {
		return err
	}
	if s.wanted == nil {
		return s.beginAnew()
	}
	return nil
}

// runsRedis reports whether a redis node or a Sentinel runs. Then the supervisor goes on with
// whatever servers are installed now.
func (s *Supervisor) runsRedis() bool {
	for _, p := range s.processes() {
		if p.Program.IsRedis() && s.node(p.Node).proc != nil {
			return true
		}
	}
	return false
}

// checkAddresses returns an error if another process uses an address that a node needs.
func (s *Supervisor) checkAddresses() error {
	if s.cfg.Pod {
		return nil // all ports of a pod are its own, and its address may be that of a Service
	}
	var wrong []error
	checked := map[string]bool{}
	for _, p := range s.processes() {
		if n := s.node(p.Node); n.proc != nil {
			checked[p.Address] = true
		}
	}
	for _, p := range s.processes() {
		host := s.home(p.Node)
		if p.Address == "" || checked[p.Address] || s.hosts.isAbsent(host.name) || !host.Present(s.ctx) {
			continue
		}
		checked[p.Address] = true
		err := host.Free(s.ctx, p.Address)
		if err != nil && s.hosts.begun {
			s.log.Warn("the address of a node is taken", "node", p.Node, "host", host.name, "address", p.Address, "by", host.heldBy(s.ctx, p.Address), "error", err)
			continue // the node reports it, and the others start
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s cannot listen on %s: the address is taken%s (%w); end that process, or give %s another port in the stack file",
				p.Node, p.Address, host.heldBy(s.ctx, p.Address), err, p.Node))
		}
	}
	return errors.Join(append(wrong, s.checkBeside()...)...)
}

// checkBeside checks the addresses other than the entry that the balancers listen on, if no
// balancer is running yet. HAProxy itself would only report that such an address is taken.
func (s *Supervisor) checkBeside() (wrong []error) {
	for _, p := range s.processes() {
		if n := s.node(p.Node); p.Kind == plan.Balancer && n.proc != nil {
			return nil
		}
	}
	others := s.stack().OtherListenAddresses()
	if port := s.stack().Redis.MasterPort; port != 0 && s.stack().Redis.Enabled {
		others[net.JoinHostPort("127.0.0.1", strconv.Itoa(port))] = "the way to the Redis master (redis.master-port)"
	}
	for _, address := range slices.Sorted(maps.Keys(others)) {
		wrong = append(wrong, s.checkFreeBeside(s.ctx, s.Plan(), others[address], address)...)
	}
	if s.hosts.begun && len(wrong) > 0 {
		s.log.Warn("the balancers cannot listen everywhere", "why", errors.Join(wrong...))
		return nil // the balancers report it, and the other nodes start
	}
	return wrong
}

// writeFiles writes the files of the plan. A file that a server rewrites is state: it is only
// written if it is missing, or if the Sentinels' files have to be rewritten (beginRewrite).
func (s *Supervisor) writeFiles() error {
	for _, h := range s.Plan().Hosts {
		if s.hosts.isAbsent(h.Name) {
			continue
		}
		if err := s.hosts.at(h.Name).putFiles(s.ctx, h); err != nil && !s.goOnWithout(h.Name, err) {
			return err
		}
	}
	if !s.persisted.Redis.Rewriting {
		return nil
	}
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	return s.writeSentinelFiles()
}

// putFiles makes the directories of a host's plan, and writes its files.
func (h home) putFiles(ctx context.Context, planned plan.Host) error {
	if err := h.makeDirs(ctx, planned.Dirs); err != nil {
		return fmt.Errorf("make a node's directory: %w", err)
	}
	for _, f := range planned.Files {
		if f.Once && h.has(ctx, f.Path) {
			continue
		}
		if err := h.writeFile(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func (h home) makeDirs(ctx context.Context, dirs []string) error {
	for _, d := range dirs {
		if err := h.MakeDir(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// makeDirs makes the directories of all nodes.
func (s *Supervisor) makeDirs() error {
	for _, h := range s.Plan().Hosts {
		if s.hosts.isAbsent(h.Name) {
			continue
		}
		if err := s.hosts.at(h.Name).makeDirs(s.ctx, h.Dirs); err != nil {
			return err
		}
	}
	return nil
}
