package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/history"
)

// Clients of the entry show little of what a web node does by itself. A balancer gives each request
// an idempotency key, so that their writes never have an unknown outcome for the node. And a client
// that writes through a node makes the node notice, for its readers too, that the master has lost
// its role. So a few clients bypass the entry and ask one node each. Their operations count only
// for safety: a node that dies is not a failure of the service, and its own clients cannot go
// elsewhere.

// Node is a web node that clients ask directly.
type Node struct {
	Name string
	URL  string // base URL, such as http://127.0.0.1:8001
	// Dial connects the clients that only read; nil: like all others. They may be in another part
	// of the network than the clients that write.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// directWriters and directReaders are the numbers of direct clients of each node. Their writes have
// no Idempotency-Key, and are sent once.
const (
	directWriters, directReaders = 6, 2

	// directShare is the rate of all direct clients together, as a fraction of Config.Rate and in
	// addition to it.
	directShare = 0.25
	// directTimeout is how long they wait for an answer: longer than a web node holds a request,
	// but not until the end of a cut, as other clients do.
	directTimeout = 8 * time.Second
	// directPatience is how long they try to connect. A dead node, or one that is cut off, is left
	// alone until the next operation.
	directPatience = 200 * time.Millisecond
)

// directClient is one client of a node.
type directClient struct {
	*client
	reads bool
	every time.Duration
}

// newDirect makes the clients of all nodes. It starts nothing.
func (l *Load) newDirect() error {
	nodes := l.cfg.Nodes
	first := l.cfg.Clients + readers // numbered after those that read everything back
	every := time.Duration(float64(len(nodes)*(directWriters+directReaders)) / (directShare * float64(l.cfg.Rate)) * float64(time.Second))
	for _, n := range nodes {
		u, err := url.Parse(n.URL)
		if err != nil || u.Scheme != "http" || u.Port() == "" {
			return fmt.Errorf("load: the node %s has the URL %q; http://host:port is one", n.Name, n.URL)
		}
		for i := range directWriters + directReaders {
			c := l.newClient(first + len(l.direct))
			c.address = u.Host
			d := &directClient{client: c, reads: i >= directWriters, every: every}
			if d.reads {
				c.reach = n.Dial
			}
			l.direct = append(l.direct, d)
		}
	}
	return nil
}

// run does an operation at each of its times until ctx ends. An operation under way ends with hard.
// Times that have passed meanwhile are skipped.
func (d *directClient) run(ctx, hard context.Context) {
	d.conn = newConnection(hard, []string{d.address}, 0)
	d.conn.reach, d.conn.patience = d.reach, directPatience
	defer d.conn.close()
	// Spread over the interval, so that the clients do not all begin at once.
	begin := time.Now().Add(d.every * time.Duration(d.number%(directWriters+directReaders)) / (directWriters + directReaders))
	for n := 0; ; n++ {
		at := begin.Add(time.Duration(n) * d.every)
		if late := time.Since(at); late > d.every {
			n += int(late / d.every)
			at = begin.Add(time.Duration(n) * d.every)
		}
		if !clock.Sleep(ctx, max(0, time.Until(at))) {
			return
		}
		op := d.perform(d.load.directTask(d.number, n, d.reads), d.load.now())
		op.Direct = true
		d.operations = append(d.operations, op)
	}
}

// directTask returns an operation of a direct client. It follows from the seed.
func (l *Load) directTask(client, n int, reads bool) task {
	var chance rand.PCG
	chance.Seed(uint64(l.cfg.Seed), uint64(client)<<32|uint64(n))
	l.mu.Lock()
	turn := max(0, l.due-1) / l.turn // determines the sets that are in use
	l.mu.Unlock()
	for {
		if t := l.randomTask(&chance, n, turn); (t.verb == history.Read) == reads {
			t.once = false
			return t
		}
	}
}
