package plan

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/stack"
)

// placesCluster runs a balancer in front of one web node that the test serves. The balancer may
// send two requests at once to the node. The node answers at once, except for paths that begin with
// /held.
func placesCluster(t *testing.T, queue time.Duration) (*cluster, *crowded) {
	s := base()
	s.Entry.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t)))
	s.Redis = stack.Redis{}
	s.Timeouts.Queue = queue
	app := s.Apps["web"]
	app.Nodes, app.Connections = 1, 2*s.Balancers
	s.Apps["web"] = app

	node := &crowded{only: "/held"}
	c := newCluster(t, s, map[string]int{"web-1": node.serve(t)})
	c.start("balancer-1")
	eventually(t, 10*time.Second, func() error { return c.get("/up").is(200) })
	return c, node
}

// holds waits until the node holds that many requests.
func (c *crowded) holds(t *testing.T, want int64) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		if n := c.now.Load(); n != want {
			return fmt.Errorf("%d requests are held, want %d", n, want)
		}
		return nil
	})
}

// fullCluster returns a placesCluster whose two places are taken.
func fullCluster(t *testing.T, queue time.Duration) (c *cluster, node *crowded, answers func() []response) {
	c, node = placesCluster(t, queue)
	answers = c.crowd(2, c.plan.EntryURL+"/held")
	node.holds(t, 2)
	return c, node, answers
}

// waiting waits until as many requests wait in the balancer.
func (c *cluster) waiting(want int) {
	c.t.Helper()
	eventually(c.t, 10*time.Second, func() error {
		n, err := c.queued("balancer-1")
		if err == nil && n != want {
			err = fmt.Errorf("%d requests wait, want %d", n, want)
		}
		return err
	})
}

func TestWhatNeedsNoPlaceDoesNotWaitBehindHeldRequests(t *testing.T) {
	c, node, answers := fullCluster(t, time.Minute)
	waiting := c.crowd(1, c.plan.EntryURL+"/get/waits")
	c.waiting(1)
	for _, r := range []struct {
		method, path, body string
		header             map[string]string
	}{
		{"GET", "/healthz/ready", "", nil},
		{"GET", "/get/k", "", map[string]string{"Holdfast-Read": "cached"}},
		{"GET", "/get/k", "", map[string]string{"holdfast-read": "Replica"}},
		{"POST", "/", `["GET","k"]`, map[string]string{"Holdfast-Read": "cached"}},
		{"GET", "/subscribe/news", "", nil},
		{"GET", "/Psubscribe/n*", "", nil},
		{"POST", "/monitor", "", nil},
		{"GET", "/v1/keys/k?watch", "", nil},
		{"GET", "/v1/keys/k?x=1&%77at%63h", "", nil},
		{"GET", "/v1/keys/k?%77ait=3s", "", nil},
		{"GET", "/v1/keys/k?after=7&wait=5", "", nil},
		{"OPTIONS", "/get/k", "", nil},
		{"POST", "/set/k", strings.Repeat("x", 16<<10), nil},
	} {
		if err := c.request(r.method, r.path, r.body, r.header).is(200); err != nil {
			t.Errorf("%s %s %v: %v", r.method, r.path, r.header, err)
		}
	}
	// No place became free: the requests above passed because of what they ask for.
	if paths := node.asked(); slices.Contains(paths, "/get/waits") {
		t.Error("a third request got a place of two")
	}
	node.letGo()
	for _, r := range append(waiting(), answers()...) {
		if err := r.is(200); err != nil {
			t.Error(err)
		}
	}
}

func TestARequestThatGetsNoPlaceInTimeIsToldSo(t *testing.T) {
	c, node, answers := fullCluster(t, 300*time.Millisecond)
	r, body := c.raw(t, "GET /get/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if err := isJSON(r, body, 503, "not executed"); err != nil {
		t.Error(err)
	}
	node.letGo()
	answers()
	if slices.Contains(node.asked(), "/get/k") {
		t.Error("it was carried out")
	}
}

func TestARequestWhoseClientHasGoneIsNotCarriedOut(t *testing.T) {
	c, node, answers := fullCluster(t, time.Minute)
	conn := c.send(t, "GET /set/gone/1 HTTP/1.1\r\nHost: x\r\n\r\n")
	c.waiting(1)
	conn.Close()
	c.waiting(0)

	// A client that has only closed its sending side is considered gone, too.
	conn = c.send(t, "GET /set/half/1 HTTP/1.1\r\nHost: x\r\n\r\n")
	c.waiting(1)
	conn.CloseWrite()
	c.waiting(0)

	node.letGo()
	answers()
	if err := c.get("/set/here/1").is(200); err != nil {
		t.Error(err)
	}
	if paths := node.asked(); slices.Contains(paths, "/set/gone/1") || slices.Contains(paths, "/set/half/1") || !slices.Contains(paths, "/set/here/1") {
		t.Errorf("the node was asked for %v", paths)
	}
}

func TestAClientThatSendsNoMoreIsNotToldThatNothingHappened(t *testing.T) {
	c, node := placesCluster(t, time.Minute)
	conn := c.send(t, "GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
	node.holds(t, 1)
	conn.CloseWrite()
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	if err := isJSON(r, string(body), 504, "carried out is not known"); err != nil {
		t.Error(err)
	}
}

// send sends bytes over a connection of its own.
func (c *cluster) send(t *testing.T, text string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", c.process("balancer-1").Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// A dead node has nothing to do, so it always has room. While the others are full, it would get
// each request again and again until the retries are used up.
func TestADeadNodeGetsNoRequestsThatTheOthersHaveNoPlaceFor(t *testing.T) {
	s := base()
	s.Entry.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t)))
	s.Redis = stack.Redis{}
	app := s.Apps["web"]
	app.Nodes, app.Connections = 2, 8*s.Balancers
	app.Health.Interval = time.Minute // the checks do not notice in time
	s.Apps["web"] = app
	one, two := &crowded{only: "/held"}, &crowded{only: "/held"}
	c := newCluster(t, s, map[string]int{"web-1": one.serve(t), "web-2": two.serve(t)})
	c.start("balancer-1")
	eventually(t, 10*time.Second, func() error { return c.get("/up").is(200) })

	held := c.crowd(16, c.plan.EntryURL+"/held")
	one.holds(t, 8)
	two.holds(t, 8)
	waiting := c.crowd(30, c.plan.EntryURL+"/get/k")
	c.waiting(30)
	one.die()
	c.waiting(38) // including the eight that the dead node had
	two.letGo()
	for _, r := range append(held(), waiting()...) {
		if err := r.is(200); err != nil {
			t.Error(err)
		}
	}
}
