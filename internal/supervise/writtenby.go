package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"holdfast/internal/plan"
	"holdfast/internal/servers"
)

// Which server has written a redis node's data. Beside the data stands what the node
// runs, or ran last: a server that cannot read what another one has written is not
// started on it. It would end at once, and at worst have its node's data held for damaged.

// writtenBy is the name of the file, in the directory of the data that it is about: a
// restore moves both.
const writtenBy = "written-by"

func writerFile(node string) string { return inHome(node, "data", writtenBy) }

// dataWriter returns which server has written a redis node's data. It reports false where
// there is no data, or nobody knows.
func (h home) dataWriter(ctx context.Context, node string) (servers.Server, bool) {
	if empty, err := h.empty(ctx, node); empty || err != nil {
		return servers.Server{}, false
	}
	text, err := h.Read(ctx, writerFile(node))
	if err != nil {
		return servers.Server{}, false
	}
	return servers.Named(string(text))
}

// noteWriter writes down which server writes a redis node's data from now on.
func (h home) noteWriter(ctx context.Context, node string, is servers.Server) error {
	return h.writeFile(ctx, plan.File{Path: writerFile(node), Mode: 0o600, Content: is.String() + "\n"})
}

// unreadable says why a server cannot be started on the data of a redis node; empty: it
// can, or nobody knows.
func (h home) unreadable(ctx context.Context, node string, is servers.Server) string {
	writer, known := h.dataWriter(ctx, node)
	if !known {
		return ""
	}
	why := is.CannotRead(writer)
	if why == "" {
		return ""
	}
	return fmt.Sprintf("%s, which has written the data of %s; nothing is changed: have %s there, or a newer one (redis.server says which server is taken)", why, node, writer)
}

// checkWriters refuses servers that cannot read the data of the nodes that are to be
// started on it. Nodes that run go on.
func (s *Supervisor) checkWriters(ctx context.Context) error {
	var wrong []error
	for _, p := range s.processes() {
		host := s.home(p.Node)
		if p.Kind != plan.Redis || s.hosts.lacks(host.name) || s.node(p.Node).proc != nil {
			continue
		}
		if _, is, err := host.findServer(ctx, p.Program); err == nil {
			if why := host.unreadable(ctx, p.Node, is); why != "" {
				wrong = append(wrong, errors.New(why))
			}
		}
	}
	return errors.Join(wrong...)
}

// checkServers refuses a change after which a redis node could not read what another one
// has, or had before: replicas get all data from the master when they have missed too
// much.
func (s *Supervisor) checkServers(ctx context.Context, now, final layout) error {
	var before []servers.Server
	for _, p := range now.host().Processes {
		if p.Kind != plan.Redis {
			continue
		}
		from, _ := now.part(p.Node)
		if writer, known := s.hosts.at(from.host).dataWriter(ctx, p.Node); known && !slices.Contains(before, writer) {
			before = append(before, writer)
		}
	}
	var wrong []string
	for _, p := range final.host().Processes {
		to, _ := final.part(p.Node)
		if p.Kind != plan.Redis || s.hosts.lacks(to.host) {
			continue
		}
		_, is, err := s.hosts.at(to.host).findServer(ctx, p.Program)
		if err != nil {
			return err
		}
		for _, writer := range before {
			if why := is.CannotRead(writer); why != "" && !slices.Contains(wrong, why) {
				wrong = append(wrong, why)
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return refused("%s, and the stack's data is of it: leave redis.server and the installed servers as they are. Data goes over only by commands, into another stack", wrong[0])
}

// alike refuses servers of several hosts of which one could not read another's data.
func alike(by map[string]servers.Server) error {
	for _, one := range slices.Sorted(maps.Keys(by)) {
		for _, other := range slices.Sorted(maps.Keys(by)) {
			if why := by[one].CannotRead(by[other]); why != "" && by[one].Name != by[other].Name {
				return fmt.Errorf("host %s has %v and host %s has %v: %s; install the same server on all hosts, or name one that all have (redis.server)", one, by[one], other, by[other], why)
			}
		}
	}
	return nil
}

// seenServers are the servers of program files, by host and digest. It is safe for
// concurrent use.
type seenServers struct {
	mu sync.Mutex
	by map[[2]string]servers.Server
}

// whatRuns returns the server that a process runs: that of the program file at path, if it
// is the one which was started, or has been seen before.
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

// serverAt returns the server of a program's file. It reports false for other programs, and
// for what does not say its version.
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

// mayWrite says why a redis node cannot be started on its data by the program that is there
// now; empty: it can. Then its server is written down beside the data.
func (n *node) mayWrite(ctx context.Context) string {
	p, host := n.spec(), n.home()
	is, known := host.serverAt(ctx, p.Program, n.sup.program(p.Node, p.Program))
	if !known {
		return "" // the start tells
	}
	if why := host.unreadable(ctx, p.Node, is); why != "" {
		return why
	}
	if err := host.noteWriter(ctx, p.Node, is); err != nil { // a full disk must not keep a node down
		n.log.Error("cannot note which server writes the data", "error", err)
	}
	return ""
}

// noteServer writes down, of a redis node that was adopted, which server writes its data.
func (s *Supervisor) noteServer(node string, is servers.Server) {
	host := s.home(node)
	if _, err := host.Stat(s.ctx, writerFile(node)); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := host.noteWriter(s.ctx, node, is); err != nil {
		s.log.Warn("cannot note which server writes the data", "node", node, "error", err)
	}
}
