package plan

import (
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/stack"
)

// crowded is a node whose requests wait until the test lets them go. Health checks do not wait,
// nor, if only is set, requests for paths that begin with something else. It counts the requests
// that it has at once.
type crowded struct {
	only      string
	now, most atomic.Int64
	release   chan struct{}
	let       sync.Once
	die       func() // closes its port and its connections

	mu    sync.Mutex
	paths []string // the paths of its requests
}

// asked returns the paths of the requests that the node got, without health checks.
func (c *crowded) asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.paths)
}

// letGo lets every waiting request go on to its answer.
func (c *crowded) letGo() { c.let.Do(func() { close(c.release) }) }

func (c *crowded) serve(t *testing.T) int {
	c.release = make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/up") || strings.HasPrefix(r.URL.Path, "/healthz/") {
			return
		}
		c.mu.Lock()
		c.paths = append(c.paths, r.URL.Path)
		c.mu.Unlock()
		if !strings.HasPrefix(r.URL.Path, c.only) {
			io.Copy(io.Discard, r.Body)
			return
		}
		for n := c.now.Add(1); ; {
			most := c.most.Load()
			if n <= most || c.most.CompareAndSwap(most, n) {
				break
			}
		}
		defer c.now.Add(-1)
		<-c.release
	}))
	c.die = func() {
		server.Listener.Close()
		server.CloseClientConnections()
	}
	t.Cleanup(func() {
		c.letGo()
		server.Close()
	})
	return server.Listener.Addr().(*net.TCPAddr).Port
}

// crowdedCluster runs two balancers in front of one node of a user's program. The HTTP entry and a
// layer 4 entry share the node.
func crowdedCluster(t *testing.T, connections, queue int) (*cluster, *crowded) {
	s := base()
	s.Entry.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t)))
	s.Redis = stack.Redis{}
	app := s.Apps["web"]
	app.KV, app.Command, app.Nodes = nil, []string{"x"}, 1
	app.Health.Path = "/up"
	app.Connections, app.Queue = connections, queue
	s.Apps["web"] = app
	s.TCP = []stack.TCPEntry{{Listen: net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t))), Mode: "tcp", App: "web"}}

	node := &crowded{}
	c := newCluster(t, s, map[string]int{"web-1": node.serve(t)})
	c.start("balancer-1")
	c.start("balancer-2")
	for _, b := range []string{"balancer-1", "balancer-2"} {
		eventually(t, 10*time.Second, func() error { _, err := c.queued(b); return err })
	}
	return c, node
}

// crowd sends n requests at once, each on a connection of its own, to the URLs in turn. The
// function that it returns waits for the answers.
func (c *cluster) crowd(n int, urls ...string) (answers func() []response) {
	var wait sync.WaitGroup
	all := make([]response, n)
	for i := range n {
		wait.Go(func() { all[i] = ask(urls[i%len(urls)]) })
	}
	return func() []response { wait.Wait(); return all }
}

// both returns the URLs of a page at the HTTP entry and at the layer 4 entry.
func (c *cluster) both() []string {
	return []string{c.plan.EntryURL + "/x", "http://" + c.plan.Stack.TCP[0].Listen + "/x"}
}

// ask sends a GET over a connection of its own.
func ask(url string) response {
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return response{err: err}
	}
	return send(r, 20*time.Second)
}

func TestANodeGetsAsManyRequestsAtOnceAsTheFileGivesIt(t *testing.T) {
	c, node := crowdedCluster(t, 7, 0)
	answers := c.crowd(80, c.both()...)
	eventually(t, 10*time.Second, func() error {
		if n := node.now.Load(); n < 7 {
			return fmt.Errorf("the node has %d requests at once, want 7", n)
		}
		return nil
	})
	node.letGo()
	for _, r := range answers() {
		if err := r.is(200); err != nil {
			t.Error(err)
		}
	}
	if n := node.most.Load(); n != 7 {
		t.Errorf("the node had %d requests at once, want 7: two balancers and two entries share them", n)
	}
}

func TestNoMoreRequestsWaitThanTheFileLets(t *testing.T) {
	c, node := crowdedCluster(t, 4, 8)
	answers := c.crowd(100, c.both()...)
	// 4 requests are being served and 8 wait; the others are refused before any of these ends.
	refused := make(chan int, 1)
	go func() {
		n := 0
		for _, r := range answers() {
			if r.err != nil || r.status == 503 {
				n++
			} else if r.status != 200 {
				t.Errorf("status %d", r.status)
			}
		}
		refused <- n
	}()
	eventually(t, 10*time.Second, func() error {
		waiting := 0
		for _, b := range []string{"balancer-1", "balancer-2"} {
			n, err := c.queued(b)
			if err != nil {
				return err
			}
			waiting += n
		}
		if node.now.Load() != 4 || waiting != 8 {
			return fmt.Errorf("%d requests at the node and %d waiting, want 4 and 8", node.now.Load(), waiting)
		}
		return nil
	})
	node.letGo()
	if n := <-refused; n < 1 || n > 88 {
		t.Errorf("%d of 100 requests were refused, want some and 88 at most", n)
	}
}

var serverLimits = regexp.MustCompile(`default-server .* maxconn (\d+)(?: maxqueue (\d+))?`)

func TestSharesAddUpToWhatTheFileGives(t *testing.T) {
	for _, c := range []struct {
		balancers, connections, queue int
		entries                       []string // the layer 4 entries that lead to the application
		routed                        bool
	}{
		{1, 1, 0, nil, true},
		{2, 2, 0, nil, true},
		{2, 33, 5, nil, true},
		{3, 100, 50, nil, true},
		{3, 7, 6, []string{"127.0.0.1:9001"}, true},
		{2, 11, 9, []string{"127.0.0.1:9001", "127.0.0.1:9002"}, true},
		{2, 5, 0, []string{"127.0.0.1:9001", "127.0.0.1:9002"}, false},
	} {
		s := base()
		s.Balancers = c.balancers
		app := s.Apps["web"]
		app.KV, app.Command = nil, []string{"x"}
		app.Connections, app.Queue = c.connections, c.queue
		s.Apps["app"] = app
		if c.routed {
			s.Routes = []stack.Route{{PathPrefix: []string{"/app"}, App: "app"}, {App: "web"}}
		}
		for _, listen := range c.entries {
			s.TCP = append(s.TCP, stack.TCPEntry{Listen: listen, Mode: "tcp", App: "app"})
		}
		connections, queue := 0, 0
		for _, file := range mustMake(t, s, machine(s, "/state", Placeholders(s))).Hosts[0].Files {
			if !strings.HasSuffix(file.Path, "haproxy.cfg") {
				continue
			}
			for _, section := range regexp.MustCompile(`(?m)^(?:backend|listen) [\s\S]*?(?:\n\n|\z)`).FindAllString(file.Content, -1) {
				if !strings.Contains(section, "server app-1 ") {
					continue
				}
				limits := serverLimits.FindStringSubmatch(section)
				if limits == nil {
					t.Fatalf("no limit in\n%s", section)
				}
				n, _ := strconv.Atoi(limits[1])
				connections += n
				n, _ = strconv.Atoi(limits[2])
				queue += n
			}
		}
		if connections != c.connections || queue != c.queue {
			t.Errorf("%+v: shares of %d connections and %d in the queue", c, connections, queue)
		}
	}
}

// tell sends a command to a balancer's runtime socket and returns the answer.
func (c *cluster) tell(balancer, command string) (string, error) {
	conn, err := net.Dial("unix", filepath.Join(c.dir, "nodes", balancer, "haproxy.sock"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, command); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// queued returns how many requests wait in a balancer.
func (c *cluster) queued(balancer string) (int, error) {
	answer, err := c.tell(balancer, "show stat")
	if err != nil {
		return 0, err
	}
	rows, err := csv.NewReader(strings.NewReader(answer)).ReadAll()
	n := 0
	for _, row := range rows {
		// A server's row counts the requests that wait for this server, and its backend's row those
		// that wait for any server.
		if row[1] != "FRONTEND" {
			waiting, _ := strconv.Atoi(row[2])
			n += waiting
		}
	}
	return n, err
}
