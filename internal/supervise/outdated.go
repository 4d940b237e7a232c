package supervise

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
)

// A package manager that installs another version of HAProxy, Redis or Holdfast replaces the
// program's file. Running processes keep the old file, which has no name any more, until they
// are restarted.

// lookAtProgramsEvery is how often the programs of running nodes are compared with their files.
const lookAtProgramsEvery = 2 * time.Second

// watchPrograms shows which nodes run a program file that was replaced, or use an old version
// of their tokens file.
func (s *Supervisor) watchPrograms() {
	for {
		s.showPrograms()
		if !clock.Sleep(s.ctx, lookAtProgramsEvery) {
			return
		}
	}
}

func (s *Supervisor) showPrograms() {
	for _, st := range s.statusBoard.snapshot().Nodes {
		n := s.node(st.Name)
		if n == nil {
			continue
		}
		why := cmp.Or(s.replacedProgram(n.spec(), st.PID), s.changedTokens(n, st.PID))
		runs := st.Server
		if is, known := s.runningServer(s.ctx, st, n.spec()); known {
			runs = is.String()
		}
		if n.spec().Kind == plan.Redis && st.State == Up {
			s.noteWriter(s.ctx, st.Name, st.PID)
		}
		s.statusBoard.update(st.Name, func(now *NodeStatus) {
			if now.PID == st.PID {
				now.Outdated, now.Server = why, runs
			}
		})
	}
}

// replacedProgram returns a text that names the program file if a process does not run the
// file's current content; empty: it does, or nobody knows. It checks only servers and
// Holdfast's own nodes, because a user's program may run in an interpreter.
func (s *Supervisor) replacedProgram(p *plan.Process, pid int) string {
	path := s.program(p.Node, p.Program)
	if pid == 0 || path == "" || p.Program != plan.HAProxy && !p.Program.IsRedis() && p.Program != plan.Self {
		return ""
	}
	host := s.home(p.Node)
	runs, err := host.Digest(s.ctx, fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	is, err := host.Digest(s.ctx, path)
	if err != nil || is == runs {
		return ""
	}
	return fmt.Sprintf("runs another version than %s is now; 'holdfast apply' starts it anew", quote.Text(path))
}

// tokensOf returns a digest of the tokens file that the stack file names and a web node reads
// when it starts; empty: it has none. Tokens in the stack file itself become a file of the
// plan.
func (s *Supervisor) tokensOf(p *plan.Process) string {
	path := machine.Variable(p.Env, "HOLDFAST_TOKENS")
	if p.Program != plan.Self || path == "" || strings.HasPrefix(path, s.home(p.Node).Path("nodes")+"/") {
		return ""
	}
	digest, err := s.home(p.Node).Digest(s.ctx, path)
	if err != nil {
		return ""
	}
	return digest
}

// changedTokens returns a text for a person if a node's tokens file has changed since the node
// read it; empty: it has not, or nobody knows.
func (s *Supervisor) changedTokens(n *node, pid int) string {
	read, is := n.processLog.tokensRead(), s.tokensOf(n.spec())
	if pid == 0 || read == "" || is == "" || read == is {
		return ""
	}
	return fmt.Sprintf("goes by the tokens that %s had when it was started; 'holdfast apply' starts it anew", quote.Text(machine.Variable(n.spec().Env, "HOLDFAST_TOKENS")))
}

// replacedFor returns the nodes that a request restarts because their program file was
// replaced, or because their tokens file has changed.
func (s *Supervisor) replacedFor(req Request) (programs, tokens []string) {
	if req.Kind != "apply" && req.Kind != "upgrade" {
		return nil, nil
	}
	s.findSelf()
	s.showPrograms()
	r := s.stack().Redis
	for _, st := range s.statusBoard.snapshot().Nodes {
		n := s.node(st.Name)
		switch {
		case st.Outdated == "" || n == nil:
		case isRedis(st.Name) && (r.Replicas == 0 || r.Sentinels == 0): // no other node could take the master's place
		case s.replacedProgram(n.spec(), st.PID) != "":
			programs = append(programs, st.Name)
		case req.Kind == "apply":
			tokens = append(tokens, st.Name)
		}
	}
	return programs, tokens
}

// findSelf finds Holdfast's program on each host, because another version may have replaced it,
// with another path.
func (s *Supervisor) findSelf() {
	if !s.cfg.Several {
		return
	}
	paths := map[programAt]string{}
	for _, h := range s.hosts.all() {
		if facts, err := h.Facts(s.ctx); err == nil && facts.Self != "" {
			paths[programAt{h.name, plan.Self}] = facts.Self
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.programs = merged(s.programs, paths)
}

// ProgramDigest returns the digest of a program file, as in Status.Program.
func ProgramDigest(path string) (string, error) { return machine.Digest(path) }

// ownProgram is the file that this process runs.
const ownProgram = "/proc/self/exe"

// showOwn shows which program file the supervisor runs, and whether it was replaced.
func (s *Supervisor) showOwn(st *Status) {
	runs, err := s.hosts.here.Digest(s.ctx, ownProgram)
	if err != nil {
		return
	}
	st.Program = runs
	if is, err := s.hosts.here.Digest(s.ctx, s.cfg.Self); err == nil && is != runs {
		st.Outdated = fmt.Sprintf("the supervisor runs another version than %s is now; 'holdfast upgrade' has that one take over", quote.Text(s.cfg.Self))
	}
}

// MayLeave returns why the supervisor cannot be replaced by another one now; nil: it can.
func (s *Supervisor) MayLeave() error {
	if s.stopping.Load() {
		return errStopping
	}
	if s.statusBoard.snapshot().Phase == PhaseStarting {
		return &StartingError{}
	}
	if now, _ := s.changing.status(); now != nil && now.Held == "" {
		return &BusyError{*now}
	}
	if !s.awaitSwitching(s.ctx) {
		return refused("a switchover is under way: try again when it is done")
	}
	s.switching.Unlock() // Close ends and undoes a switchover that begins now
	return nil
}
