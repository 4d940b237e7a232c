package report

import (
	"fmt"
	"math"
	"slices"
	"time"

	"holdfast/internal/history"
)

// The layout of the picture of an anomaly, in pixels; labelLength is in characters.
const (
	diagramWidth = 1120.0
	diagramLeft  = 84.0
	diagramRight = diagramWidth - 12
	rowHeight    = 22.0
	labelLength  = 32
)

// compressedAxis is a time axis that keeps the order of events but compresses the distances between
// them. So a write and the read that misses it half a minute later fit into one picture, and
// operations of a millisecond are still visible.
type compressedAxis struct {
	times []time.Duration
	at    []float64
}

func newCompressedAxis(times []time.Duration, left, right float64) compressedAxis {
	times = slices.Compact(slices.Sorted(slices.Values(times)))
	s := compressedAxis{times: times, at: make([]float64, len(times))}
	for i := 1; i < len(times); i++ {
		ms := (times[i] - times[i-1]).Seconds() * 1e3
		s.at[i] = s.at[i-1] + 0.7 + math.Log1p(min(ms, 1e4))
	}
	scale := 0.0
	if n := len(times); n > 1 {
		scale = (right - left) / s.at[n-1]
	}
	for i := range s.at {
		s.at[i] = left + s.at[i]*scale
	}
	return s
}

// x returns the position of a time. The time must be one of the axis' own.
func (s compressedAxis) x(t time.Duration) float64 {
	i, _ := slices.BinarySearch(s.times, t)
	return s.at[min(i, len(s.at)-1)]
}

// bar is an operation in the picture.
type bar struct {
	op         history.Operation
	label      string
	from, to   float64
	row        int
	labelAfter bool // beside the bar, because it does not fit inside
}

// spacetime draws the operations of an anomaly: a row for each client, with a bar from each
// operation's start to its end.
func spacetime(p proof, faults []row) markup {
	if len(p.Around) == 0 {
		return ""
	}

	var times []time.Duration
	byClient := map[int][]history.Operation{}
	for _, op := range p.Around {
		times = append(times, op.Start, op.End)
		byClient[op.Client] = append(byClient[op.Client], op)
	}

	first, last := slices.Min(times), slices.Max(times)
	type injection struct {
		at   time.Duration
		hint string
	}
	var injections []injection
	for _, f := range faults {
		for _, m := range f.Moments {
			if m >= first && m <= last && len(injections) < 40 {
				injections = append(injections, injection{m, f.name() + " at " + formatTime(m)})
				times = append(times, m)
			}
		}
	}
	x := newCompressedAxis(times, diagramLeft, diagramRight-60)

	type lane struct {
		client, rows int
		bars         []bar
	}
	var lanes []lane
	rows := 0
	for client, ops := range byClient {
		l := lane{client: client}
		l.bars, l.rows = placeBars(ops, x)
		lanes = append(lanes, l)
		rows += l.rows
	}
	slices.SortFunc(lanes, func(a, b lane) int { return a.client - b.client })

	const top = 22.0
	bottom := top + float64(rows)*rowHeight + float64(len(lanes))*6
	var c canvas
	c.open("spacetime", p.N, diagramWidth, bottom+26, "Operations around the anomaly of "+p.Key,
		"One lane for each client, a bar for each operation from its start to its end. The same operations stand in the list below.")

	y := top
	for i, l := range lanes {
		height := float64(l.rows)*rowHeight + 6
		if i%2 == 0 {
			c.rect("lane", 0, y, diagramWidth, height, "")
		}
		y += height
	}

	named := 0.0
	for _, b := range injections {
		at := x.x(b.at)
		c.rule("blow", at, 6, at, bottom, b.hint)
		if at >= named {
			name := shorten(b.hint, 40)
			c.text("blowname", at+4, 14, name)
			named = at + textWidth(name) + 8
		}
	}

	y = top
	for _, l := range lanes {
		height := float64(l.rows)*rowHeight + 6
		c.text("client", 8, y+19, fmt.Sprintf("client %d", l.client))
		for _, b := range l.bars {
			drawBar(&c, b, y+4+float64(b.row)*rowHeight)
		}
		y += height
	}

	drawCompressedAxis(&c, x, bottom)
	return c.close()
}

// placeBars places one client's operations. Operations whose labels would overlap get rows below
// each other.
func placeBars(ops []history.Operation, x compressedAxis) ([]bar, int) {
	var bars []bar
	var taken []float64
	for _, op := range ops {
		b := bar{op: op, label: describeOperation(op, labelLength), from: x.x(op.Start), to: x.x(op.End)}
		b.to = max(b.to, b.from+4)
		width := textWidth(b.label) + 8
		left, right := b.from, b.to
		if width > b.to-b.from {
			b.labelAfter = true
			if right += width; right > diagramWidth { // there is only room before the bar
				left = b.from - width
				right = b.to
			}
		}
		b.row = freeRow(taken, left)
		if b.row == len(taken) {
			taken = append(taken, 0)
		}
		taken[b.row] = right + 6
		bars = append(bars, b)
	}
	return bars, max(len(taken), 1)
}

func drawBar(c *canvas, b bar, y float64) {
	hint := b.label + ", " + formatTime(b.op.Start) + " to " + formatTime(b.op.End)
	if a := describeAnswer(b.op); a != "" {
		hint += ", " + a
	}
	c.rect("bar "+outcomeClass(b.op.Outcome), b.from, y, b.to-b.from, rowHeight-5, hint)
	switch {
	case !b.labelAfter:
		c.text("in "+outcomeClass(b.op.Outcome), b.from+4, y+12.5, b.label)
	case b.to+textWidth(b.label)+8 > diagramWidth:
		c.text("out end", b.from-4, y+12.5, b.label)
	default:
		c.text("out", b.to+4, y+12.5, b.label)
	}
}

func outcomeClass(o history.Outcome) class {
	switch o {
	case history.OK:
		return "ok"
	case history.Unknown:
		return "unknown"
	}
	return "failed"
}

// drawCompressedAxis writes as many of the times as there is room for.
func drawCompressedAxis(c *canvas, x compressedAxis, bottom float64) {
	c.rule("grid", diagramLeft, bottom, diagramRight, bottom, "")
	free := 0.0
	for i, t := range x.times {
		at := x.at[i]
		c.rule("grid", at, bottom, at, bottom+4, "")
		if label := formatTime(t); at >= free {
			c.text("tick middle", at, bottom+18, label)
			free = at + textWidth(label) + 10
		}
	}
}
