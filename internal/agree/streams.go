package agree

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/internal/clock"
)

// Each connection begins with one line that names its purpose and the identity of
// the member that it is meant for; the answer is one line as well. The address
// alone would not be enough: a member whose disk was emptied listens at the same
// address, and its vote would count as that of its former incarnation.
const (
	greeting  = "holdfast-agree/1"
	forRaft   = "raft"
	forProbe  = "probe"
	accepted  = "ok"
	greetTime = 2 * time.Second
	maxLine   = 1024
)

// Progress is how much of the log a member has.
type Progress struct {
	ID      string `json:"id"`
	Term    uint64 `json:"term"`
	Last    uint64 `json:"last"`    // the index of the last entry of its log
	Applied uint64 `json:"applied"` // the index of the last entry that it has carried out
	// Leader is the ID of the leader, or empty if the member knows of none.
	Leader string `json:"leader,omitempty"`
}

// streams provides raft with connections, over those of Config.Listener and
// Config.Dial. It implements raft.StreamLayer. It keeps track of every connection,
// so that it can close them all.
type streams struct {
	id, self string // self is the id with the address, see peerAddress
	listener net.Listener
	dial     func(ctx context.Context, address string) (net.Conn, error)
	progress func() Progress
	incoming chan net.Conn
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{}
	cut  bool
}

func newStreams(id string, cfg Config, progress func() Progress) *streams {
	s := &streams{
		id: id, self: peerAddress(id, cfg.Address), listener: cfg.Listener, dial: cfg.Dial,
		progress: progress, incoming: make(chan net.Conn), open: map[net.Conn]struct{}{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// peerAddress returns what raft uses as a member's address: it includes the
// identity.
func peerAddress(id, address string) string { return id + "@" + address }

func splitAddress(peer string) (id, address string) {
	id, address, _ = strings.Cut(peer, "@")
	return id, address
}

// serve accepts connections until Close. It returns at once.
func (s *streams) serve() {
	s.work.Go(func() {
		pauses := clock.Backoff{Min: 5 * time.Millisecond, Max: time.Second}
		for s.ctx.Err() == nil {
			conn, err := s.listener.Accept()
			if err == nil {
				pauses.Reset()
				s.work.Go(func() { s.welcome(conn) })
				continue
			}
			clock.Sleep(s.ctx, pauses.Next())
		}
	})
}

func (s *streams) welcome(conn net.Conn) {
	tracked, err := s.track(conn)
	if err != nil {
		return
	}

	tracked.SetDeadline(time.Now().Add(greetTime))
	line, err := readLine(tracked)
	words := strings.Fields(line)

	switch {
	case err != nil || len(words) != 3 || words[0] != greeting:
		fmt.Fprintf(tracked, "this is no member of this version\n")
	case words[2] != s.id:
		fmt.Fprintf(tracked, "this is %s\n", s.id)
	case words[1] == forProbe:
		progress, _ := json.Marshal(s.progress())
		fmt.Fprintf(tracked, "%s %s\n", accepted, progress)
	case words[1] == forRaft:
		if _, err := fmt.Fprintf(tracked, "%s\n", accepted); err != nil {
			break
		}
		tracked.SetDeadline(time.Time{})
		select {
		case s.incoming <- tracked:
			return
		case <-s.ctx.Done():
		}
	}
	tracked.Close()
}

// greet opens a connection to a member, and returns it with the rest of the line
// that accepts it.
func (s *streams) greet(ctx context.Context, purpose, id, address string) (net.Conn, string, error) {
	conn, err := s.dial(ctx, address)
	if err != nil {
		return nil, "", err
	}
	tracked, err := s.track(conn)
	if err != nil {
		return nil, "", err
	}

	deadline, ok := ctx.Deadline()
	if limit := time.Now().Add(greetTime); !ok || limit.Before(deadline) {
		deadline = limit
	}
	tracked.SetDeadline(deadline)
	line := ""
	if _, err = fmt.Fprintf(tracked, "%s %s %s\n", greeting, purpose, id); err == nil {
		line, err = readLine(tracked)
	}

	rest, ok := strings.CutPrefix(line, accepted)
	if other, is := strings.CutPrefix(line, "this is "); is {
		err = fmt.Errorf("%s at %s: %w answers there, %s: remove the old one and add the new one", id, address, ErrOtherIncarnation, other)
	} else if err == nil && !ok {
		err = fmt.Errorf("%s at %s: no member of this version answers there", id, address)
	}

	if err != nil {
		tracked.Close()
		return nil, "", err
	}
	tracked.SetDeadline(time.Time{})
	return tracked, strings.TrimSpace(rest), nil
}

// readLine reads one line, and no byte of what follows it.
func readLine(conn net.Conn) (string, error) {
	var line []byte
	one := make([]byte, 1)
	for len(line) < maxLine {
		if _, err := io.ReadFull(conn, one); err != nil {
			return "", err
		}
		if one[0] == '\n' {
			return string(line), nil
		}
		line = append(line, one[0])
	}
	return "", bufio.ErrTooLong
}

// probe asks a member for its Progress.
func (s *streams) probe(ctx context.Context, id, address string) (p Progress, err error) {
	conn, answer, err := s.greet(ctx, forProbe, id, address)
	if err != nil {
		return p, err
	}
	conn.Close()
	return p, json.Unmarshal([]byte(answer), &p)
}

// Dial implements raft.StreamLayer.
func (s *streams) Dial(peer raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	id, address := splitAddress(string(peer))
	conn, _, err := s.greet(ctx, forRaft, id, address)
	return conn, err
}

func (s *streams) Accept() (net.Conn, error) {
	select {
	case conn := <-s.incoming:
		return conn, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close closes all connections, and waits until no goroutine works on them any
// more.
func (s *streams) Close() error {
	s.cancel()
	err := s.listener.Close()
	s.setCut(true)
	s.work.Wait()
	return err
}

// setCut closes all connections and refuses new ones, or allows new ones again.
// After Close they stay refused.
func (s *streams) setCut(cut bool) {
	s.mu.Lock()
	s.cut = cut || s.ctx.Err() != nil
	var ended []net.Conn
	if s.cut {
		ended = slices.Collect(maps.Keys(s.open))
		clear(s.open)
	}
	s.mu.Unlock()
	for _, conn := range ended {
		conn.Close()
	}
}

func (s *streams) Addr() net.Addr { return address(s.self) }

type address string

func (address) Network() string  { return "agree" }
func (a address) String() string { return string(a) }

// errCut is the error of a connection that setCut refuses.
var errCut = errors.New("this member keeps to itself until its disk answers")

func (s *streams) track(conn net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		conn.Close()
		return nil, errCut
	}
	s.open[conn] = struct{}{}
	return &trackedConn{conn, s}, nil
}

// trackedConn is a connection that streams forgets when the connection is closed.
type trackedConn struct {
	net.Conn
	streams *streams
}

func (c *trackedConn) Close() error {
	c.streams.mu.Lock()
	delete(c.streams.open, c.Conn)
	c.streams.mu.Unlock()
	return c.Conn.Close()
}
