package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"

	"holdfast/internal/machine"
)

// Server carries out the calls of other hosts' supervisors on one host. It is safe for
// concurrent use.
type Server struct {
	machine machine.Machine
	self    string
	terms   *Terms
	http    *http.Server

	mu sync.Mutex
	// processes are those that were started or adopted through this server. They stay for a
	// while after their end, because the caller may still ask how they ended.
	processes map[machine.ID]machine.Process
}

// maxProcesses is how many processes a Server keeps before it forgets those that have ended.
const maxProcesses = 256

// NewServer returns the server of a machine; self is the path of Holdfast's program there. It
// serves nothing before Serve.
func NewServer(m machine.Machine, self string, terms *Terms) *Server {
	s := &Server{machine: m, self: self, terms: terms, processes: map[machine.ID]machine.Process{}}
	s.http = &http.Server{Handler: s.handler(), ReadHeaderTimeout: aliveLimit}
	return s
}

// Serve serves the calls on a connection until the connection ends. The caller has verified
// that a host of the stack is at the other end.
func (s *Server) Serve(conn net.Conn) error {
	session, err := yamux.Server(conn, multiplexing())
	if err != nil {
		return err
	}
	err = s.http.Serve(session)
	if session.IsClosed() || errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	_ = session.Close() // it has ended
	return err
}

// Close ends all connections. The host's nodes go on running.
func (s *Server) Close() error { return s.http.Close() }

func (s *Server) handler() http.Handler {
	m := s.machine
	mux := http.NewServeMux()
	handle(s, mux, "write", func(ctx context.Context, in machine.File) (nothing, error) { return nothing{}, m.Write(ctx, in) })
	handle(s, mux, "read", func(ctx context.Context, in named) ([]byte, error) { return m.Read(ctx, in.Name) })
	handle(s, mux, "make-dir", func(ctx context.Context, in named) (nothing, error) { return nothing{}, m.MakeDir(ctx, in.Name) })
	handle(s, mux, "stat", func(ctx context.Context, in named) (machine.Info, error) { return m.Stat(ctx, in.Name) })
	handle(s, mux, "remove", func(ctx context.Context, in named) (nothing, error) { return nothing{}, m.Remove(ctx, in.Name) })
	handle(s, mux, "rename", func(ctx context.Context, in renamed) (nothing, error) {
		return nothing{}, m.Rename(ctx, in.From, in.To)
	})
	handle(s, mux, "glob", func(ctx context.Context, in named) ([]string, error) { return m.Glob(ctx, in.Name) })

	handle(s, mux, "look-outside", func(ctx context.Context, in outside) (machine.OutsideFiles, error) {
		return m.LookOutside(ctx, in.Path, in.Known, in.Endings)
	})

	handle(s, mux, "start", func(ctx context.Context, in machine.Spec) (machine.ID, error) { return s.keep(m.Start(ctx, in)) })
	handle(s, mux, "adopt", func(ctx context.Context, in machine.ID) (nothing, error) {
		p, err := s.process(ctx, in)
		if err == nil && p.Exit() != "" {
			err = machine.ErrGone
		}
		return nothing{}, err
	})
	handle(s, mux, "alive", func(ctx context.Context, in machine.ID) (bool, error) { return m.Alive(ctx, in) })
	handle(s, mux, "find", func(ctx context.Context, in machine.Trace) ([]machine.ID, error) { return m.Find(ctx, in) })
	handle(s, mux, "children", func(ctx context.Context, in int) ([]int, error) { return m.Children(ctx, in), nil })
	handle(s, mux, "look-path", func(ctx context.Context, in named) (string, error) { return m.LookPath(ctx, in.Name) })
	handle(s, mux, "digest", func(ctx context.Context, in named) (string, error) { return m.Digest(ctx, in.Name) })
	handle(s, mux, "run", func(ctx context.Context, in program) (machine.Output, error) { return m.Run(ctx, in.Path, in.Args...) })

	handle(s, mux, "signal", func(ctx context.Context, in signal) (nothing, error) { return nothing{}, s.signal(ctx, in) })
	handle(s, mux, "stopped", func(ctx context.Context, in machine.ID) (bool, error) {
		p, err := s.process(ctx, in)
		return err == nil && p.Stopped(), err
	})

	handle(s, mux, "free", func(ctx context.Context, in address) (nothing, error) { return nothing{}, m.Free(ctx, in.Address) })
	handle(s, mux, "holder", func(ctx context.Context, in int) (string, error) { return m.Holder(ctx, in), nil })
	handle(s, mux, "present", func(ctx context.Context, _ nothing) (bool, error) { return m.Present(ctx), nil })
	handle(s, mux, "facts", func(ctx context.Context, _ nothing) (machine.Facts, error) {
		facts, err := m.Facts(ctx)
		facts.Self = s.self
		return facts, err
	})
	handle(s, mux, "tail", func(ctx context.Context, in tail) ([]string, error) { return m.Tail(ctx, in.Node, in.Since), nil })

	// These two are not part of handle, so that a later term does not wait for them: they
	// can take as long as a process or a connection lives, and change nothing.
	mux.HandleFunc("POST "+prefix+"wait", s.wait)
	mux.HandleFunc("POST "+prefix+"dial", s.dial)
	return mux
}

// handle registers the handler of one kind of call.
func handle[In, Out any](s *Server, mux *http.ServeMux, name string, do func(ctx context.Context, in In) (Out, error)) {
	mux.HandleFunc("POST "+prefix+name, func(w http.ResponseWriter, r *http.Request) {
		term, in, err := readCall[In](r)
		if err != nil {
			answer(w, nil, err)
			return
		}
		ctx, end, err := s.terms.Begin(r.Context(), term)
		if err != nil {
			answer(w, nil, err)
			return
		}
		defer end()
		out, err := do(ctx, in)
		answer(w, out, err)
	})
}

// readCall reads the term and the argument of a call.
func readCall[In any](r *http.Request) (term uint64, in In, err error) {
	if term, err = strconv.ParseUint(r.Header.Get(termHeader), 10, 64); err != nil {
		return 0, in, fmt.Errorf("the call says no term: %w", err)
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody)).Decode(&in); err != nil {
		return 0, in, fmt.Errorf("read the call: %w", err)
	}
	return term, in, nil
}

// keep adds a process that was started or adopted, and returns its ID.
func (s *Server) keep(p machine.Process, err error) (machine.ID, error) {
	if err != nil {
		return machine.ID{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.processes) >= maxProcesses {
		for id, old := range s.processes {
			if old.Exit() != "" {
				delete(s.processes, id)
			}
		}
	}
	s.processes[p.ID()] = p
	return p.ID(), nil
}

// process returns a process that was kept, which may have ended, or else adopts it.
func (s *Server) process(ctx context.Context, id machine.ID) (machine.Process, error) {
	s.mu.Lock()
	p := s.processes[id]
	s.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := s.machine.Adopt(ctx, id)
	if err != nil {
		return nil, err
	}
	_, err = s.keep(p, nil)
	return p, err
}

func (s *Server) signal(ctx context.Context, in signal) error {
	p, err := s.process(ctx, in.ID)
	if err != nil {
		return err
	}
	if in.Group {
		return p.SignalGroup(syscall.Signal(in.Number))
	}
	return p.Signal(syscall.Signal(in.Number))
}

// wait serves the call that waits for the end of a process.
func (s *Server) wait(w http.ResponseWriter, r *http.Request) {
	_, id, err := readCall[machine.ID](r)
	var p machine.Process
	if err == nil {
		p, err = s.process(r.Context(), id)
	}
	if err != nil {
		answer(w, nil, err)
		return
	}
	// The header is sent at once: it tells the caller that the process is known.
	w.WriteHeader(http.StatusOK)
	if err := http.NewResponseController(w).Flush(); err != nil {
		return
	}
	select {
	case <-p.Done():
		answer(w, ended{p.Exit()}, nil)
	case <-r.Context().Done():
	}
}

// dial serves the call that connects its stream to a node.
func (s *Server) dial(w http.ResponseWriter, r *http.Request) {
	term, to, err := readCall[address](r)
	if err != nil {
		answer(w, nil, err)
		return
	}
	ctx, end, err := s.terms.Begin(r.Context(), term)
	if err != nil {
		answer(w, nil, err)
		return
	}

	node, err := s.machine.Dial(ctx, to.Network, to.Address)
	end()
	if err != nil {
		answer(w, nil, err)
		return
	}
	defer node.Close()

	if !s.terms.addStream(node, term) {
		answer(w, nil, ErrDeposed)
		return
	}
	defer s.terms.removeStream(node)

	stream, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		answer(w, nil, err)
		return
	}
	defer stream.Close()

	if _, err := fmt.Fprintf(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", streamName); err != nil {
		return
	}
	joinStreams(stream, buffered.Reader, node)
}

// lastWords is how long a node may go on sending after its caller has closed its direction.
const lastWords = 5 * time.Second

// joinStreams copies in both directions until both ends have closed. Said has what was already
// read from the caller.
func joinStreams(caller net.Conn, said io.Reader, node net.Conn) {
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(node, said) // an error ends the connection like an end of file
		if half, ok := node.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_ = node.SetReadDeadline(time.Now().Add(lastWords))
			return
		}
		_ = node.Close()
	})
	_, _ = io.Copy(caller, node)
	_ = caller.Close()
	copying.Wait()
}
