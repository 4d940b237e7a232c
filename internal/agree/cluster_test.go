package agree

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/clock"
)

// patience is how long a test waits for an event. It is a limit for slow machines,
// and does not measure anything.
const patience = 60 * time.Second

// soon polls until happened returns true.
func soon(t *testing.T, what string, happened func() bool) {
	t.Helper()
	if !clock.Within(patience, 10*time.Millisecond, happened) {
		t.Fatalf("in %s there was not: %s", patience, what)
	}
}

func within(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// host is a member of a cluster. Member is nil while the host does not run.
type host struct {
	*Member
	name, dir, address string
	cluster            *cluster
	prepare            func(*Member)
}

// lead is one leadership of a host.
type lead struct {
	host  *host
	term  uint64
	ctx   context.Context
	began time.Time
}

// cluster is several members in this process that reach each other through links.
type cluster struct {
	t     *testing.T
	hosts map[string]*host
	log   *slog.Logger

	mu    sync.Mutex
	links map[[2]string]*link // from, to
	leads []lead
	lead  func(ctx context.Context, h *host, term uint64)
}

// newCluster starts members with these names. The first one begins with the
// documents of initial.
func newCluster(t *testing.T, initial map[string][]byte, names ...string) *cluster {
	c := &cluster{t: t, hosts: map[string]*host{}, links: map[[2]string]*link{}, log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	t.Cleanup(func() {
		for _, h := range c.hosts {
			h.halt()
		}
		for _, l := range c.links {
			l.close()
		}
	})
	for i, name := range names {
		h := c.host(name)
		if i == 0 {
			if err := Bootstrap(h.dir, name, h.address, initial); err != nil {
				t.Fatal(err)
			}
		}
		h.start()
		if i > 0 {
			c.add(h)
		}
	}
	return c
}

// host makes a host that does not run yet.
func (c *cluster) host(name string) *host {
	h := &host{name: name, dir: filepath.Join(c.t.TempDir(), name), cluster: c, address: freeAddress(c.t)}
	c.hosts[name] = h
	return h
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (h *host) config() Config {
	c := h.cluster
	listener, err := net.Listen("tcp", h.address)
	for end := time.Now().Add(patience); err != nil && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		listener, err = net.Listen("tcp", h.address)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return Config{
		Dir: h.dir, Name: h.name, Address: h.address, Listener: listener,
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", c.link(h.name, address).address())
		},
		Lead: h.lead, Log: c.log.With("host", h.name),
	}
}

func (h *host) start() *host {
	h.cluster.t.Helper()
	m, err := start(h.config(), h.prepare)
	if err != nil {
		h.cluster.t.Fatal(err)
	}
	h.Member = m
	return h
}

// halt stops a host without handing over or telling the others.
func (h *host) halt() {
	if h.Member == nil {
		return
	}
	h.fail(errors.New("halted"))
	if err := h.Stop(within(h.cluster.t, patience)); err != nil {
		h.cluster.t.Errorf("%s: %v", h.name, err)
	}
	h.Member = nil
}

func (h *host) lead(ctx context.Context, term uint64) {
	c := h.cluster
	c.mu.Lock()
	c.leads = append(c.leads, lead{h, term, ctx, time.Now()})
	do := c.lead
	c.mu.Unlock()
	if do != nil {
		do(ctx, h, term)
		return
	}
	<-ctx.Done()
}

// add makes a running host a member.
func (c *cluster) add(h *host) {
	c.t.Helper()
	err := error(nil)
	soon(c.t, "an added "+h.name, func() bool { // on a busy machine the leader may change
		err = c.leader().host.Add(within(c.t, patience), h.ID(), h.address)
		if err != nil && !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, ErrNoMajority) {
			c.t.Fatal(err)
		}
		return err == nil
	})
}

// leader waits until one of these hosts leads, or any host if none is named.
func (c *cluster) leader(of ...*host) lead {
	c.t.Helper()
	var found lead
	soon(c.t, "a leader", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.leads) == 0 {
			return false
		}
		found = c.leads[len(c.leads)-1]
		if found.ctx.Err() != nil || found.host.Member == nil || !found.host.leadsIn(found.term) {
			return false
		}
		for _, h := range of {
			if h == found.host {
				return true
			}
		}
		return len(of) == 0
	})
	return found
}

// others returns the running hosts except one, sorted by name.
func (c *cluster) others(than *host) []*host {
	var others []*host
	for _, h := range c.hosts {
		if h != than && h.Member != nil {
			others = append(others, h)
		}
	}
	slices.SortFunc(others, func(a, b *host) int { return strings.Compare(a.name, b.name) })
	return others
}

// put writes a document at the current leader, again until it is acknowledged.
func (c *cluster) put(name, text string) {
	c.t.Helper()
	soon(c.t, "an acknowledged write of "+name, func() bool {
		l := c.leader()
		_, err := l.host.Put(within(c.t, 5*time.Second), l.term, name, []byte(text), AnyRevision)
		return err == nil
	})
}

// has waits until a host's copy of a document has this text.
func (h *host) has(name, text string) {
	h.cluster.t.Helper()
	soon(h.cluster.t, fmt.Sprintf("%s = %q on %s", name, text, h.name), func() bool {
		doc, _ := h.GetStale(name)
		return string(doc.Data) == text
	})
}

func names(peers []Peer) string {
	var all []string
	for _, p := range peers {
		vote := ""
		if !p.Voter {
			vote = "?"
		}
		all = append(all, p.Name+vote)
	}
	return strings.Join(all, " ")
}

// link is a TCP proxy from one host to another. While it is cut, nothing passes and
// the connections stay open.
type link struct {
	listener net.Listener
	target   string
	work     sync.WaitGroup
	isCut    atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
}

func (c *cluster) link(from, toAddress string) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := [2]string{from, toAddress}
	if l := c.links[key]; l != nil {
		return l
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Error(err)
	}
	l := &link{listener: listener, target: toAddress}
	c.links[key] = l
	l.work.Go(l.serve)
	return l
}

func (l *link) address() string { return l.listener.Addr().String() }

func (l *link) serve() {
	for {
		in, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.work.Go(func() {
			out, err := net.Dial("tcp", l.target)
			if err != nil {
				in.Close()
				return
			}
			l.mu.Lock()
			l.conns = append(l.conns, in, out)
			l.mu.Unlock()
			l.work.Go(func() { l.pass(in, out) })
			l.pass(out, in)
		})
	}
}

func (l *link) pass(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		for l.isCut.Load() {
			time.Sleep(5 * time.Millisecond)
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				from.Close()
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *link) close() {
	l.isCut.Store(false)
	l.listener.Close()
	l.mu.Lock()
	for _, conn := range l.conns {
		conn.Close()
	}
	l.mu.Unlock()
	l.work.Wait()
}

// cut cuts a host off from all others, or connects it again.
func (c *cluster) cut(h *host, cut bool) {
	for _, other := range c.hosts {
		if other != h {
			c.link(h.name, other.address).isCut.Store(cut)
			c.link(other.name, h.address).isCut.Store(cut)
		}
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(line []byte) (int, error) {
	if testing.Verbose() {
		_, _ = os.Stderr.Write(line) // only for the reader of go test -v
	}
	return len(line), nil
}

func wants(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("error %v, want %v", err, target)
	}
}
