package plan

import (
	"fmt"
	"slices"
)

// httpEntry stands for the HTTP entry where a layer 4 entry would be given by its index in
// Stack.TCP.
const httpEntry = -1

// limit sets the limits of an application's servers as one balancer counts them, for the requests
// of one entry. HAProxy counts per process and backend, so each of these counters gets its share of
// the limit that the stack file sets for a node. Together the shares are exactly that limit.
func (b builder) limit(d *backendData, balancer node, name string, entry int) {
	app := b.stack.Apps[name]
	if app.Connections == 0 {
		return
	}
	if entry == httpEntry && !b.stack.Routed(name) {
		return // only drills use this backend
	}
	d.Limited = true
	count, mine, nodes := b.stack.Shares(name), b.counter(balancer, name, entry), len(d.Servers)
	if app.Discovery != nil { // the number of this balancer among the others is unknown: each takes the larger share
		count, mine, nodes = app.Discovery.Balancers, 0, app.Discovery.Nodes
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

// limitedRetries is the least number of retries where servers have a limit; see refusing. A refused
// connection takes some 0.1 ms.
const limitedRetries = 50

// refusing marks a server down after it refused several connections in a row; the health check
// brings it back.
//
// Where servers have a limit this cannot wait for the health check. A dead server has nothing to do
// and so always has room, while the others are full: it would get every request again and again
// until the retries are used up. The supervisor marks it down sooner where it can (tellHealth).
// HAProxy makes a request that meets the change wait for a second.
const refusing = " observe layer4 error-limit 20 on-error mark-down"

// counter returns the index of a counter among those of an application: first those of the
// balancers for the HTTP entry, then those for each layer 4 entry.
func (b builder) counter(balancer node, name string, entry int) int {
	balancers := ofKind(b.nodes, Balancer)
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

// share returns the i-th of count parts of a total. The first parts are larger by one where the
// total cannot be divided evenly.
func share(total, count, i int) int {
	part := total / count
	if i < total%count {
		part++
	}
	return part
}
