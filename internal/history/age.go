package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// checkAge adds reads of replicas and caches that are older than the client allowed. Such a read
// shows a value although a later one was certainly there at the time whose state the read had to
// show.
func (r *register) checkAge() {
	order, newest := r.lastSeen()
	for _, i := range r.key.ops {
		op := r.ops[i]
		v := r.lookup(op.Got, !op.Found)
		if !op.read() || op.master() || v == nil || !v.used {
			continue
		}
		n, _ := slices.BinarySearchFunc(order, op.asOf(), func(v *value, t time.Duration) int { return cmp.Compare(v.first, t) })
		if n == 0 {
			continue
		}
		later := newest[n-1][0]
		if later == v {
			later = newest[n-1][1]
		}
		if later == nil || later.last <= v.first {
			continue
		}
		r.findings.add(Anomaly{What: StaleRead, Key: r.key.name, Operations: keep(v.write, later.write, later.firstOp, i),
			Text: fmt.Sprintf("client %d read %s%s at %s, although %s, which came after it, was there at %s",
				op.Client, v.name(), fromWhere(op), seconds(op.End), later.name(), seconds(later.first))})
	}
}

// lastSeen returns the values sorted by first. For each of them it returns the two values, of it
// and those before it, that were seen last.
func (r *register) lastSeen() ([]*value, [][2]*value) {
	order := slices.Clone(r.values)
	slices.SortStableFunc(order, func(a, b *value) int { return cmp.Compare(a.first, b.first) })
	newest := make([][2]*value, len(order))
	var best [2]*value
	for n, v := range order {
		switch {
		case best[0] == nil || v.last > best[0].last:
			best = [2]*value{v, best[0]}
		case best[1] == nil || v.last > best[1].last:
			best[1] = v
		}
		newest[n] = best
	}
	return order, newest
}
