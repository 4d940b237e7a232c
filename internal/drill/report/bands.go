package report

import (
	"fmt"
	"time"

	"holdfast/internal/history"
)

// labelRow is where the name of a fault is written above the panels.
type labelRow struct {
	depth int
	text  string
}

// placeFaults returns a row for each fault's name, so that no name covers another, and the number
// of rows. If there are too many faults, it shortens names, down to the fault's number.
func placeFaults(r result, x axis) ([]labelRow, int) {
	var rows []labelRow
	var taken [mostLabelRows]float64 // each row is in use up to this pixel
	depth := 0
	for _, f := range r.Rows {
		from, to := x.x(f.Began), x.x(faultEnd(f.Fault, x.end))
		l := labelRow{text: fmt.Sprintf("%d %s", f.N, shorten(f.name(), 44))}
		for _, text := range []string{l.text, fmt.Sprintf("%d %s", f.N, shorten(f.Name, 24)), fmt.Sprint(f.N)} {
			l.text = text
			if l.depth = freeRow(taken[:], labelLeft(from, text)); l.depth < mostLabelRows {
				break
			}
		}
		l.depth = min(l.depth, mostLabelRows-1)
		taken[l.depth] = max(taken[l.depth], to+6, labelLeft(from, l.text)+textWidth(l.text)+12)
		depth = max(depth, l.depth+1)
		rows = append(rows, l)
	}
	return rows, depth
}

// labelLeft returns where a name for a pixel begins: at that pixel, or further left if it would go
// beyond the right end.
func labelLeft(from float64, text string) float64 {
	return min(from, chartRight-textWidth(text)-8)
}

func freeRow(taken []float64, from float64) int {
	for i, until := range taken {
		if until <= from {
			return i
		}
	}
	return len(taken)
}

// faultEnd returns when the stack was well after a fault, or end if it never was.
func faultEnd(f history.Fault, end time.Duration) time.Duration {
	if f.Healthy >= 0 {
		return max(f.Healthy, f.Began)
	}
	return end
}

// drawBands shades the panels while something was broken, and more lightly until the stack was well
// again.
func drawBands(c *canvas, r result, x axis, panels []panel) {
	for _, f := range r.Rows {
		from, to := x.x(f.Began), x.x(faultEnd(f.Fault, x.end))
		broken := to
		if f.Undone >= 0 {
			broken = min(x.x(f.Undone), to)
		}
		for _, p := range panels {
			c.rect("broken", from, p.y, max(broken-from, 1.5), p.height, "")
			if to > broken {
				c.rect("healing", broken, p.y, to-broken, p.height, "")
			}
		}
	}
}

// drawMarks draws the names of the faults, each injection, the moment when the stack was well
// again, and the notices.
func drawMarks(c *canvas, r result, x axis, rows []labelRow, top float64, panels []panel) {
	// The line goes from its row down through each panel. It leaves the titles between the panels
	// free.
	through := func(k class, at, from float64, hint string) {
		var p path
		if from < top+4 {
			p.move(at, from)
			p.down(top + 4)
		}
		for _, one := range panels {
			p.move(at, one.y)
			p.down(one.bottom())
		}
		c.draw(k, p, hint)
	}

	for i, f := range r.Rows {
		from, to := x.x(f.Began), x.x(faultEnd(f.Fault, x.end))
		y := 6 + float64(rows[i].depth)*laneHeight
		hint := faultHint(f)
		c.rect("fault", from, y+15, max(to-from, 2), 4, hint)
		c.text("faultname", labelLeft(from, rows[i].text), y+11, rows[i].text)
		moments := f.Moments
		if len(moments) == 0 {
			moments = []time.Duration{f.Began}
		}
		for _, m := range moments[:min(len(moments), 200)] {
			at := x.x(m)
			through("blow", at, y+15, f.name()+" at "+formatTime(m))
			var tip path
			tip.move(at-4, top+4)
			tip.across(at + 4)
			tip.line(at, top+11)
			tip.shut()
			c.draw("tip", tip, "")
		}
		if f.Healthy >= 0 {
			through("healthy", to, y+19, fmt.Sprintf("healthy again after fault %d, at %s", f.N, formatTime(f.Healthy)))
		}
	}

	for i, n := range r.Notices {
		at := x.x(n.At)
		hint := formatTime(n.At) + " " + n.Node + " " + n.Text
		through("notice", at, top+4, hint)
		c.text("noticename", at, panels[len(panels)-1].bottom()+31, string(rune('a'+i%26)))
	}
}

func faultHint(f row) string {
	s := f.name() + ": began " + formatTime(f.Began)
	if f.Undone >= 0 {
		s += ", undone " + formatTime(f.Undone)
	}
	if f.Healthy >= 0 {
		return s + ", healthy again " + formatTime(f.Healthy)
	}
	return s + ", never healthy again"
}
