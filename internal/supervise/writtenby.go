package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/servers"
)

// This file records which server has written a redis node's data. Once a node is up, the
// supervisor asks it for its server and version, and records them beside the data. A server
// that cannot read another server's data is not started on it, because it would end at once.

// writtenBy is the name of the record. It is in the directory of the data, so that a restore
// moves both.
const writtenBy = "written-by"

func writerFile(node string) string { return inHome(node, "data", writtenBy) }

// recordedWriter returns which server has written a redis node's data, according to the record,
// and reports whether there are both data and a record.
func (h home) recordedWriter(ctx context.Context, node string) (servers.Server, bool) {
	if empty, err := h.empty(ctx, node); empty || err != nil {
		return servers.Server{}, false
	}
	text, err := h.Read(ctx, writerFile(node))
	if err != nil {
		return servers.Server{}, false
	}
	return servers.Named(string(text))
}

// infoLimit is how long a redis node may take to report which server it is.
const infoLimit = time.Second

// askServer asks a running redis node or Sentinel which server it is.
func (s *Supervisor) askServer(ctx context.Context, node string) (servers.Server, bool) {
	admin := s.admin(node)
	if admin == nil {
		return servers.Server{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, infoLimit)
	defer cancel()
	info, err := admin.Info(ctx)
	if err != nil {
		return servers.Server{}, false
	}
	return servers.OfInfo(info)
}

// dataServer returns the server that writes a redis node's data: the running one, otherwise
// that of the record. It reports whether one is known.
func (s *Supervisor) dataServer(ctx context.Context, node string) (servers.Server, bool) {
	host := s.home(node)
	if s.hosts.isAbsent(host.name) {
		return servers.Server{}, false
	}
	st, _ := s.statusBoard.snapshot().Node(node)
	if is, known := servers.Named(st.Server); known && st.PID != 0 {
		return is, true
	}
	if st.PID != 0 && st.State != Paused {
		if is, known := s.askServer(ctx, node); known {
			return is, true
		}
	}
	return host.recordedWriter(ctx, node)
}

// stackServer returns the server of the stack's data: that of the master, otherwise that of the
// first other node for which it is known.
func (s *Supervisor) stackServer(ctx context.Context) (servers.Server, bool) {
	master := s.lastSeenMaster()
	if master == "" {
		s.stateMu.Lock()
		master = nodeToRestore(s.persisted, s.stack().Redis.Replicas)
		s.stateMu.Unlock()
	}
	for _, node := range append([]string{master}, s.nodesOfKind(plan.Redis)...) {
		if is, known := s.dataServer(ctx, node); known {
			return is, true
		}
	}
	return servers.Server{}, false
}

// recordedServer returns the server of the data in a state directory, only from the records.
func (d dir) recordedServer(ctx context.Context) (servers.Server, bool) {
	if d.root == "" {
		return servers.Server{}, false
	}
	h := hostsAt(d.root).here
	defer h.Close()
	k, err := d.readState()
	if err != nil {
		return servers.Server{}, false
	}
	nodes := []string{cmp.Or(k.Redis.Replication.Master, plan.FirstMaster)}
	files, _ := h.Glob(ctx, writerFile("*"))
	for _, file := range files { // nodes/NODE/data/written-by
		nodes = append(nodes, path.Base(path.Dir(path.Dir(file))))
	}
	for _, node := range nodes {
		if is, known := h.recordedWriter(ctx, node); known {
			return is, true
		}
	}
	return servers.Server{}, false
}

// unreadable returns why a server cannot be started on the data of a redis node; empty: it can.
// If nobody knows which server has written the data, only the server that redis.server: auto
// chooses is started on it.
func (h home) unreadable(ctx context.Context, node string, program plan.Program, is servers.Server) string {
	if empty, err := h.empty(ctx, node); empty || err != nil {
		return ""
	}
	file := h.Path(writerFile(node))
	writer, known := h.recordedWriter(ctx, node)
	if !known {
		if _, usual, err := h.findServer(ctx, plan.RedisServer, ""); program == plan.RedisServer || err != nil || usual.Name == is.Name {
			return ""
		}
		return fmt.Sprintf("nobody knows which server has written the data of %s, and %v may be unable to read it; start the stack with redis.server: auto once, or write the name and the version of the server into %s, such as %v", node, is, file, is)
	}
	why := is.CannotRead(writer)
	if why == "" {
		return ""
	}
	return fmt.Sprintf("%s, which has written the data of %s (%s); nothing is changed: install %s or a newer one, and have the stack file take it (redis.server)", why, node, file, writer)
}

// checkWriters returns an error if no redis node could be started on its data. If some can, the
// others copy their data from the master, or report why they do not start.
func (s *Supervisor) checkWriters(ctx context.Context) error {
	var wrong []error
	for _, p := range s.processes() {
		host := s.home(p.Node)
		switch {
		case p.Kind != plan.Redis:
			continue
		case s.hosts.isAbsent(host.name), s.node(p.Node).proc != nil:
			return nil
		}
		path := s.program(p.Node, p.Program)
		is, known := host.serverAt(ctx, p.Program, path)
		if !known {
			return nil // findPrograms has reported why
		}
		why := host.unreadable(ctx, p.Node, p.Program, is)
		if why == "" {
			return nil
		}
		wrong = append(wrong, errors.New(why))
	}
	return errors.Join(wrong...)
}

// checkServers returns an error if a change starts a redis node that could not read the data
// which it gets from the master, or that would take the master's place without being able to
// read its data. Changes that start no redis node and no Sentinel are not checked.
func (s *Supervisor) checkServers(ctx context.Context, final layout, parts []changePart) error {
	starts := startedServers(parts)
	if len(starts) == 0 {
		return nil
	}
	if _, wrong := s.findPrograms(ctx, final.plan); len(wrong.of(starts)) > 0 {
		return wrong.of(starts).err()
	}

	is, will := map[string]servers.Server{}, map[string]servers.Server{}
	for _, p := range final.host().Processes {
		to, _ := final.nodePlan(p.Node)
		if p.Kind != plan.Redis {
			continue
		}
		if s.node(p.Node) != nil {
			if writer, known := s.dataServer(ctx, p.Node); known {
				is[p.Node], will[p.Node] = writer, writer
			}
		}
		if starts[p.Node] && !s.hosts.isAbsent(to.host) {
			_, next, err := s.hosts.at(to.host).findServer(ctx, p.Program, s.keptName(ctx))
			if err != nil {
				return err
			}
			will[p.Node] = next
		}
	}

	master := s.lastSeenMaster()
	writer, known := is[master]
	if !known && master != "" { // then it is no longer in the stack
		writer, known = s.dataServer(ctx, master)
	}

	for _, p := range final.host().Processes {
		if p.Kind != plan.Redis || !starts[p.Node] {
			continue
		}
		var sources []servers.Server // the servers that write the data which it gets
		switch {
		case known && p.Node != master:
			sources = []servers.Server{writer}
		case known && len(will) == 1:
			sources = []servers.Server{writer}
		case known: // then another node becomes the master
			for node, other := range will {
				if node != p.Node {
					sources = append(sources, other)
				}
			}
		default:
			for _, other := range is {
				sources = append(sources, other)
			}
		}
		for _, source := range sources {
			if why := will[p.Node].CannotRead(source); why != "" {
				return refused("%s, and the stack's data is of it: leave redis.server and the installed servers as they are. Data goes over only by commands, into another stack", why)
			}
		}

		to, _ := final.nodePlan(p.Node)
		if len(sources) == 0 && !s.hosts.isAbsent(to.host) {
			if why := s.hosts.at(to.host).unreadable(ctx, p.Node, p.Program, will[p.Node]); why != "" {
				return refused("%s", why)
			}
		}
	}
	return nil
}

// startedServers returns the redis nodes and Sentinels that a change starts.
func startedServers(parts []changePart) map[string]bool {
	starts := map[string]bool{}
	for _, part := range parts {
		for _, step := range part.steps {
			if (step.Action == plan.Start || step.Action == plan.Restart) && isRedisOrSentinel(step.Node) {
				starts[step.Node] = true
			}
		}
	}
	return starts
}

// seenServers has the servers of program files, by host and digest (by), and the pids of redis
// nodes whose server is recorded beside their data, by name (noted). It is safe for concurrent
// use.
type seenServers struct {
	mu    sync.Mutex
	by    map[[2]string]servers.Server
	noted map[string]int
}

// runningServer returns the server that a node's process runs. It asks a redis node or a
// Sentinel only once for each process.
func (s *Supervisor) runningServer(ctx context.Context, st NodeStatus, p *plan.Process) (servers.Server, bool) {
	if !p.Program.IsRedis() {
		return s.seenServers.whatRuns(ctx, s.home(st.Name), st.PID, p.Program, s.program(st.Name, p.Program))
	}
	if is, known := servers.Named(st.Server); known || st.PID == 0 || st.State == Paused {
		return is, known
	}
	return s.askServer(ctx, st.Name)
}

// whatRuns returns the server that a process runs: that of the program file at path if the
// process runs that file, or one that was found earlier for the same digest.
func (k *seenServers) whatRuns(ctx context.Context, h home, pid int, program plan.Program, path string) (servers.Server, bool) {
	if _, known := serverPrograms[program]; !known || pid == 0 || path == "" {
		return servers.Server{}, false
	}
	runs, err := h.Digest(ctx, fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return servers.Server{}, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if is, known := k.by[[2]string{h.name, runs}]; known {
		return is, true
	}
	if file, err := h.Digest(ctx, path); err != nil || file != runs {
		return servers.Server{}, false
	}
	is, known := h.serverAt(ctx, program, path)
	if known {
		if k.by == nil {
			k.by = map[[2]string]servers.Server{}
		}
		k.by[[2]string{h.name, runs}] = is
	}
	return is, known
}

// serverAt returns the server of a program's file. It reports false for other programs, and if
// the program does not print its version.
func (h home) serverAt(ctx context.Context, program plan.Program, path string) (servers.Server, bool) {
	s, known := serverPrograms[program]
	if !known || path == "" {
		return servers.Server{}, false
	}
	out, err := h.askVersion(ctx, s, path)
	if err != nil {
		return servers.Server{}, false
	}
	return servers.Parse(string(out))
}

// noteWriter asks a redis node that is up which server it is, and records that beside its data,
// once for each process. If that fails, the next call tries again.
func (s *Supervisor) noteWriter(ctx context.Context, node string, pid int) {
	s.seenServers.mu.Lock()
	done := s.seenServers.noted[node] == pid
	s.seenServers.mu.Unlock()
	if done {
		return
	}
	is, known := s.askServer(ctx, node)
	if st, _ := s.statusBoard.snapshot().Node(node); !known || st.PID != pid {
		return
	}
	host := s.home(node)
	if text, err := host.Read(ctx, writerFile(node)); err != nil || strings.TrimSpace(string(text)) != is.String() {
		if err := host.writeFile(ctx, plan.File{Path: writerFile(node), Mode: 0o600, Content: is.String() + "\n"}); err != nil {
			s.log.Warn("cannot note which server writes the data", "node", node, "error", err)
			return
		}
	}
	s.seenServers.mu.Lock()
	defer s.seenServers.mu.Unlock()
	if s.seenServers.noted == nil {
		s.seenServers.noted = map[string]int{}
	}
	s.seenServers.noted[node] = pid
}

// cannotRead returns why a redis node cannot be started on its data by the current program;
// empty: it can. If the node is a replica of a master that responds, and the program can read
// the master's data, the node's own data is set aside, and it copies the master's.
func (n *node) cannotRead(ctx context.Context, master string) string {
	p, host := n.spec(), n.home()
	is, known := host.serverAt(ctx, p.Program, n.sup.program(p.Node, p.Program))
	if !known {
		return "" // the start reports it
	}
	why := host.unreadable(ctx, p.Node, p.Program, is)
	if why == "" || master == "" || !n.sup.isMaster(ctx, master) {
		return why
	}
	writer, known := n.sup.serverOf(ctx, master)
	if !known || is.CannotRead(writer) != "" {
		return why
	}
	aside, err := n.moveData(ctx, unreadableData)
	if err != nil {
		return fmt.Sprintf("%s. It cannot be set aside: %v", why, err)
	}
	n.log.Warn("this server cannot read the node's data: it is set aside, and the data comes from the master", "why", why, "kept", aside, "master", master)
	return ""
}

// serverOf asks the redis node at an address which server it is.
func (s *Supervisor) serverOf(ctx context.Context, address string) (servers.Server, bool) {
	for name, n := range s.allNodes() {
		if n.spec().Address == address {
			return s.askServer(ctx, name)
		}
	}
	return servers.Server{}, false
}
