package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"time"

	"holdfast/internal/history"
)

// Clients of the entry show little of what a web node does by itself: a balancer
// gives each request a key, so that no write of theirs has an unknown outcome for
// the node, and who writes through a node finds out for its readers that the master
// is one no more. So a few clients go past the entry, straight to one node each.
// What they see counts for safety alone: a node that dies is no failure of the
// service, and its own clients cannot go elsewhere.

// Node is a web node that clients ask directly.
type Node struct {
	Name string
	URL  string // base URL, such as http://127.0.0.1:8001
	// Dial connects the clients that only read; nil: like all others. They may be
	// at another place of the network than those that write.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// The direct clients of each node, and how often each of them has an operation.
// A write goes without an Idempotency-Key, and is sent once.
const (
	directWriters, directReaders = 6, 2

	// directShare is the part of the rate that all of them have together, beside it.
	directShare = 0.25
	// directTimeout is how long they wait for an answer: longer than a web node
	// holds a request, and not as long as others wait for the end of a cut.
	directTimeout = 8 * time.Second
	// directPatience is how long they try to connect: a node that is dead or cut off
	// is left alone until the next operation.
	directPatience = 200 * time.Millisecond
)

// direct is one client of a node.
type direct struct {
	*client
	reads bool
	every time.Duration
}

// newDirect makes the clients of all nodes, and starts nothing.
func (l *Load) newDirect() error {
	nodes := l.cfg.Nodes
	first := l.cfg.Clients + readers // after those that read everything back
	every := time.Duration(float64(len(nodes)*(directWriters+directReaders)) / (directShare * float64(l.cfg.Rate)) * float64(time.Second))
	for _, n := range nodes {
		u, err := url.Parse(n.URL)
		if err != nil || u.Scheme != "http" || u.Port() == "" {
			return fmt.Errorf("load: the node %s has the URL %q; http://host:port is one", n.Name, n.URL)
		}
		for i := range directWriters + directReaders {
			c := l.newClient(first + len(l.direct))
			c.address = u.Host
			d := &direct{client: c, reads: i >= directWriters, every: every}
			if d.reads {
				c.reach = n.Dial
			}
			l.direct = append(l.direct, d)
		}
	}
	return nil
}

// run has an operation at each of its times until ctx ends; one that is under way
// ends with hard. Times that passed meanwhile are left out.
func (d *direct) run(ctx, hard context.Context) {
	d.conn = newConnection(hard, []string{d.address}, 0)
	d.conn.reach, d.conn.patience = d.reach, directPatience
	defer d.conn.close()
	// Not all of them at once.
	begin := time.Now().Add(d.every * time.Duration(d.number%(directWriters+directReaders)) / (directWriters + directReaders))
	for n := 0; ; n++ {
		at := begin.Add(time.Duration(n) * d.every)
		if late := time.Since(at); late > d.every {
			n += int(late / d.every)
			at = begin.Add(time.Duration(n) * d.every)
		}
		if !wait(ctx, max(0, time.Until(at))) {
			return
		}
		op := d.perform(d.load.directTask(d.number, n, d.reads), d.load.now())
		op.Direct = true
		d.operations = append(d.operations, op)
	}
}

// directTask is what an operation of a direct client does; it follows from the seed.
func (l *Load) directTask(client, n int, reads bool) task {
	var chance rand.PCG
	chance.Seed(uint64(l.cfg.Seed), uint64(client)<<32|uint64(n))
	l.mu.Lock()
	turn := max(0, l.due-1) / l.turn // of the sets that are in use
	l.mu.Unlock()
	for {
		if t := l.draw(&chance, n, turn); (t.verb == history.Read) == reads {
			t.once = false
			return t
		}
	}
}
