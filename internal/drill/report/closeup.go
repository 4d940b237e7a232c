package report

import (
	"fmt"
	"time"

	"holdfast/internal/history"
)

// The layout of a close-up, in pixels.
const (
	closeWidth  = 560.0
	closeLeft   = 52.0
	closeHeight = 140.0
	mostDots    = 3500 // of one outcome
)

// closeUp draws each operation around one fault as a dot: across by when it was due, upwards by how
// long it waited. It returns nothing if there was no operation.
func closeUp(f row, all []row, ops []history.Operation, end time.Duration) markup {
	x := axis{left: closeLeft, right: closeWidth - 10}
	x.begin, x.end = around(f, all, end)
	p := panel{x: x, y: 28, height: closeHeight}
	low, high := time.Hour, time.Duration(0)
	for _, op := range ops {
		if within(op, x) {
			wait := max(op.End-op.Due, 10*time.Microsecond)
			low, high = min(low, wait), max(high, wait)
		}
	}
	if high == 0 {
		return "" // no operation was due then
	}
	if limit := f.Promise.Pause; limit > 0 {
		high = max(high, min(limit, 10*high))
	}

	var c canvas
	c.open("closeup", f.N, closeWidth, p.bottom()+26, fmt.Sprintf("Operations around fault %d, %s", f.N, f.name()),
		fmt.Sprintf("Operations due from %s to %s, and how long each waited; %s at most while the fault was there.", formatTime(x.begin), formatTime(x.end), formatDuration(f.Cost.Pause)))
	c.rect("panel", x.left, p.y, x.right-x.left, p.height, "")
	drawBands(&c, result{Rows: []row{f}}, x, []panel{p})
	y := p.logarithmic(&c, low, high)
	if limit := f.Promise.Pause; limit > 0 && limit <= high {
		c.rule("limit", x.left, y(limit), x.right, y(limit), "promised: "+formatDuration(limit)+" at most")
	}
	drawDots(&c, ops, x, y)
	for _, m := range f.Moments[:min(len(f.Moments), 200)] {
		c.rule("blow", x.x(m), p.y, x.x(m), p.bottom(), f.name()+" at "+formatTime(m))
	}
	if f.Healthy >= 0 && f.Healthy <= x.end {
		c.rule("healthy", x.x(f.Healthy), p.y, x.x(f.Healthy), p.bottom(), "healthy again at "+formatTime(f.Healthy))
	}
	drawTimes(&c, x, p.bottom(), 8)
	p.title(&c, fmt.Sprintf("%d %s", f.N, shorten(f.name(), 40)), "waited; by seconds")
	return c.close()
}

// around returns the time to show: from a little before the fault until shortly after clients had
// recovered. It ends at the latest when the next fault begins, which has a picture of its own.
func around(f row, all []row, end time.Duration) (from, to time.Duration) {
	from = max(f.Began-500*time.Millisecond, 0)
	last := f.Began
	for _, m := range f.Moments {
		last = max(last, m)
	}
	switch {
	case f.Cost.Recovery >= 0:
		last = max(last, f.Began+f.Cost.Recovery*5/4)
	case f.Healthy >= 0:
		last = max(last, f.Healthy)
	default:
		last = min(end, last+20*time.Second)
	}
	to = max(last+500*time.Millisecond, f.Began+2*time.Second)
	for _, other := range all {
		if other.Began > last {
			to = min(to, other.Began)
		}
	}
	return from, min(to, max(end, from+time.Second))
}

func within(op history.Operation, x axis) bool {
	return op.OfLoad() && op.Due >= x.begin && op.Due <= x.end
}

// drawDots draws each operation, successful ones first, so that they cover none of the others. Dots
// at the same place are drawn once. If there are more than mostDots, dots close to each other are
// drawn once, too.
func drawDots(c *canvas, ops []history.Operation, x axis, y func(time.Duration) float64) {
	type dot struct{ x, y int }
	for _, k := range []class{"ok", "failed", "unknown"} {
		var all []dot
		for _, op := range ops {
			if within(op, x) && outcomeClass(op.Outcome) == k {
				all = append(all, dot{int(x.x(op.Due) + 0.5), int(y(op.End-op.Due) + 0.5)})
			}
		}
		for grid := 1; len(all) > 0; grid++ {
			seen := map[dot]bool{}
			var p path
			for _, d := range all {
				d.x, d.y = d.x/grid*grid, d.y/grid*grid
				if !seen[d] {
					seen[d] = true
					p.dot(d.x, d.y)
				}
			}
			if len(seen) <= mostDots {
				c.draw("dot "+k, p, "")
				break
			}
		}
	}
}
