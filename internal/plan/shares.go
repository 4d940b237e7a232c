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
	count := b.stack.Shares(name)
	mine := b.counter(balancer, name, entry)
	d.ServerLimits += fmt.Sprintf(" maxconn %d", share(app.Connections, count, mine))
	if app.Queue > 0 {
		d.ServerLimits += fmt.Sprintf(" maxqueue %d", share(app.Queue, count, mine))
		d.MaxQueued = share(app.Queue*len(d.Servers), count, mine)
	}
}

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
