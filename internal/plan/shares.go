package plan

import (
	"fmt"
	"slices"
)

// httpEntry is the HTTP entry among a stack's entries; a layer 4 entry is
// its index in Stack.TCP.
const httpEntry = -1

// limit sets the limits of an application's servers as one balancer counts
// them, for the requests of one entry. HAProxy counts per process and backend,
// so each of these counters gets its share of what the stack file gives a node;
// together they have exactly that.
func (b builder) limit(d *backendData, balancer node, name string, entry int) {
	app := b.stack.Apps[name]
	if app.Connections == 0 {
		return
	}
	if entry == httpEntry && !b.stack.Routed(name) {
		return // only drills come this way
	}
	d.Limited = true
	count, mine, nodes := b.stack.Shares(name), b.counter(balancer, name, entry), len(d.Servers)
	if app.Found != nil { // which one of the balancers this is, nobody knows: each takes the larger share
		count, mine, nodes = app.Found.Balancers, 0, app.Found.Nodes
	}
	d.ServerLimits += fmt.Sprintf(" maxconn %d", share(app.Connections, count, mine))
	if app.Queue > 0 {
		d.ServerLimits += fmt.Sprintf(" maxqueue %d", share(app.Queue, count, mine))
		d.MaxQueued = share(app.Queue*nodes, count, mine)
	}
	d.ServerLimits += refusing
	if r := b.stack.Retries; r > 0 && r < limitedRetries {
		d.Retries = limitedRetries
	}
}

// limitedRetries is how often a request is tried at least where servers have a
// limit: see refusing. A refused connection takes some 0.1 ms.
const limitedRetries = 50

// refusing takes a server out when it has refused some connections in a row, and
// the health check brings it back. Where servers have a limit this cannot wait for
// the check: a dead one has nothing to do and so always room, while the others are
// full, and it would get every request, refuse it, and get it again until the
// tries are used up. The supervisor is quicker where it can be (tellHealth); HAProxy
// lets a request that meets the change wait for a second.
const refusing = " observe layer4 error-limit 20 on-error mark-down"

// counter is the index of a counter among those of an application: the
// balancers' for the HTTP entry come first, then those for each layer 4 entry.
func (b builder) counter(balancer node, name string, entry int) int {
	balancers := of(b.nodes, Balancer)
	mine := slices.Index(balancers, balancer)
	if entry == httpEntry {
		return mine
	}
	if b.stack.Routed(name) {
		mine += len(balancers)
	}
	for _, earlier := range b.stack.TCP[:entry] {
		if earlier.App == name {
			mine += len(balancers)
		}
	}
	return mine
}

// share is the part of a total that the i-th of count gets. The first ones get
// one more where the total cannot be divided evenly.
func share(total, count, i int) int {
	part := total / count
	if i < total%count {
		part++
	}
	return part
}
