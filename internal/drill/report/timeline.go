package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The layout of the timeline, in pixels of its own scale.
const (
	chartWidth    = 1160.0
	chartLeft     = 64.0
	chartRight    = chartWidth - 14
	laneHeight    = 21.0
	mostLabelRows = 6
	panelGap      = 36.0 // including the panel's title
)

// timeline is the picture of a whole drill.
type timeline struct {
	SVG markup
	// Data is for the script that shows the numbers under the pointer. Axis has the left and right
	// end of the axis as fractions of the width, its length and the step in seconds. Data has the
	// numbers of each bucket, with times in microseconds.
	Axis, Data string
	Step       time.Duration
	Empty      bool
	Errors     bool // the panel of errors is not empty
}

// chart draws throughput, latency and errors on one time axis, with what was broken when.
func chart(r result, s series) timeline {
	t := timeline{Step: s.Step, Empty: !slices.ContainsFunc(s.Buckets, func(b bucket) bool { return b != bucket{} })}
	x := axis{end: s.End, left: chartLeft, right: chartRight}
	rows, depth := placeFaults(r, x)

	top := 10 + laneHeight*float64(depth)
	throughput := panel{x: x, y: top + panelGap - 8, height: 150}
	latency := panel{x: x, y: throughput.bottom() + panelGap, height: 170}
	errors := panel{x: x, y: latency.bottom() + panelGap, height: 76}
	for _, b := range s.Buckets {
		t.Errors = t.Errors || b.DueFailed+b.DueUnknown > 0
	}
	if !t.Errors {
		errors.height = 14
	}
	bottom := errors.bottom()

	var c canvas
	c.open("timeline", 1, chartWidth, bottom+44, "Timeline of the drill", describe(r, s))
	for _, p := range []panel{throughput, latency, errors} {
		c.rect("panel", x.left, p.y, x.right-x.left, p.height, "")
	}

	drawBands(&c, r, x, []panel{throughput, latency, errors})
	drawThroughput(&c, throughput, s, r.Rate)
	drawLatency(&c, latency, s)
	if t.Errors {
		drawErrors(&c, errors, s)
	}
	drawTimes(&c, x, bottom, 12)
	drawMarks(&c, r, x, rows, top, []panel{throughput, latency, errors})

	throughput.title(&c, "Outcomes", "per second, by when they came")
	latency.title(&c, "Latency", "of what was answered, from when it was due; logarithmic")
	counted := "none failed, none is unknown"
	if t.Errors {
		counted = "failed and unknown, by when they were due, each " + formatDuration(s.Step)
	}
	errors.title(&c, "Errors", counted)
	c.text("unit end", x.right, bottom+38, "seconds since the drill began")
	c.rule("cursor", 0, throughput.y, 0, bottom, "")

	t.SVG = c.close()
	t.Axis = fmt.Sprintf("%g %g %g %g", x.left/chartWidth, x.right/chartWidth, s.End.Seconds(), s.Step.Seconds())
	t.Data = s.data()
	return t
}

// describe says in words what the picture shows, for screen readers.
func describe(r result, s series) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Answers per second, latency and errors over %.1f seconds, in steps of %s.", s.End.Seconds(), formatDuration(s.Step))
	for _, f := range r.Rows {
		fmt.Fprintf(&b, " Fault %d, %s, began at %s", f.N, f.name(), formatTime(f.Began))
		if f.Healthy >= 0 {
			fmt.Fprintf(&b, "; the stack was well again at %s", formatTime(f.Healthy))
		}
		b.WriteString(".")
	}
	b.WriteString(" The same numbers stand in the table below the picture.")
	return b.String()
}

// panel is one of the charts that share the time axis.
type panel struct {
	x         axis
	y, height float64
}

func (p panel) bottom() float64 { return p.y + p.height }

// title writes what the panel shows, and in which unit.
func (p panel) title(c *canvas, what, unit string) {
	c.titled(p.x.left, p.y-9, what, unit)
}

// level draws a line across the panel, with its label at the left.
func (p panel) level(c *canvas, y float64, label string) {
	c.rule("grid", p.x.left, y, p.x.right, y, "")
	c.text("tick end", p.x.left-7, y+4, label)
}

// columns returns the outline of a bar chart on the bottom of the panel.
func (p panel) columns(s series, heightOf func(i int, b bucket) float64) path {
	var out path
	ground, open := p.bottom(), false
	for i, b := range s.Buckets {
		left := p.x.x(time.Duration(i) * s.Step)
		h := heightOf(i, b)
		switch {
		case h <= 0 && open:
			out.across(left)
			out.down(ground)
			out.shut()
			open = false
		case h > 0 && !open:
			out.move(left, ground)
			open = true
			out.down(ground - h)
		case h > 0:
			out.across(left)
			out.down(ground - h)
		}
	}
	if open {
		out.across(p.x.right)
		out.down(ground)
		out.shut()
	}
	return out
}

func drawThroughput(c *canvas, p panel, s series, rate int) {
	perSecond := func(i, n int) float64 { return float64(n) / s.seconds(i) }
	total := func(i int) float64 {
		b := s.Buckets[i]
		return perSecond(i, b.OK+b.Failed+b.Unknown)
	}

	var all []float64
	for i := range s.Buckets {
		if v := total(i); v > 0 {
			all = append(all, v)
		}
	}

	// Held requests are answered all at once. Their peak would flatten everything else, so it is
	// cut off, and its height is written beside it.
	most := float64(rate)
	if len(all) > 0 {
		slices.Sort(all)
		most = max(most, all[len(all)/2])
		if most *= 1.6; all[len(all)-1] < most {
			most = max(all[len(all)-1], float64(rate)*1.15)
		}
	}
	most = max(most, 1)

	step := roundStep(most, 1, 4)
	for v := 0.0; v <= most; v += step {
		p.level(c, p.bottom()-v/most*p.height, number(int(v)))
	}

	height := func(i, n int) float64 { return min(perSecond(i, n)/most, 1) * p.height }
	c.draw("unknown", p.columns(s, func(i int, b bucket) float64 {
		if b.Unknown == 0 {
			return 0
		}
		return height(i, b.OK+b.Failed+b.Unknown)
	}), "")
	c.draw("failed", p.columns(s, func(i int, b bucket) float64 {
		if b.Failed == 0 {
			return 0
		}
		return height(i, b.OK+b.Failed)
	}), "")
	c.draw("ok", p.columns(s, func(i int, b bucket) float64 { return height(i, b.OK) }), "")

	if rate > 0 {
		y := p.bottom() - float64(rate)/most*p.height
		c.rule("rate", p.x.left, y, p.x.right, y, fmt.Sprintf("asked for: %d a second", rate))
	}

	free := 0.0
	for i := 0; i < len(s.Buckets); i++ {
		peak, from := 0.0, i
		for ; i < len(s.Buckets) && total(i) > most; i++ {
			peak = max(peak, total(i))
		}
		label := "↑ " + number(int(peak))
		x := p.x.x(time.Duration(i)*s.Step) + 4
		if x+textWidth(label) > p.x.right {
			x = p.x.x(time.Duration(from)*s.Step) - textWidth(label) - 4
		}
		if peak > 0 && x >= free {
			c.text("peak", x, p.y+12, label)
			free = x + textWidth(label) + 8
		}
	}
}

func drawLatency(c *canvas, p panel, s series) {
	low, high := time.Duration(math.MaxInt64), time.Duration(0)
	for _, b := range s.Buckets {
		if b.Answered > 0 {
			low, high = min(low, b.P50), max(high, b.Max)
		}
	}
	y := p.logarithmic(c, low, high)
	for _, l := range []struct {
		class class
		of    func(bucket) time.Duration
	}{
		{"max", func(b bucket) time.Duration { return b.Max }},
		{"p99", func(b bucket) time.Duration { return b.P99 }},
		{"p50", func(b bucket) time.Duration { return b.P50 }},
	} {
		var out path
		drawing := false
		for i, b := range s.Buckets {
			x := p.x.x(min(time.Duration(i)*s.Step+s.Step/2, s.End))
			switch {
			case b.Answered == 0:
				drawing = false
			case drawing:
				out.line(x, y(l.of(b)))
			default:
				out.move(x, y(l.of(b)))
				out.across(x + 0.5) // makes a lone point visible
				drawing = true
			}
		}
		c.draw(l.class, out, "")
	}
}

// logarithmic draws a level for each power of ten, and returns a function from durations to
// positions.
func (p panel) logarithmic(c *canvas, low, high time.Duration) func(time.Duration) float64 {
	if high <= 0 || low > high {
		low, high = time.Millisecond, time.Second
	}
	least := math.Floor(math.Log10(max(low.Seconds(), 1e-5)))
	decades := max(math.Ceil(math.Log10(max(high.Seconds(), 1e-5)))-least, 1)
	y := func(d time.Duration) float64 {
		v := (math.Log10(max(d.Seconds(), 1e-6)) - least) / decades
		return p.bottom() - min(max(v, 0), 1)*p.height
	}
	for i := range int(decades) + 1 {
		d := time.Duration(math.Round(math.Pow(10, least+float64(i)) * 1e9))
		label := strings.NewReplacer(".00", "", ".0", "").Replace(formatDuration(d))
		if d < time.Millisecond {
			label = fmt.Sprintf("%d µs", d.Microseconds())
		}
		p.level(c, y(d), label)
	}
	return y
}

func drawErrors(c *canvas, p panel, s series) {
	most := 1
	for _, b := range s.Buckets {
		most = max(most, b.DueFailed+b.DueUnknown)
	}
	step := int(roundStep(float64(most), 1, 3))
	for v := 0; v <= most; v += step {
		p.level(c, p.bottom()-float64(v)/float64(most)*(p.height-8), number(v))
	}
	unit := (p.height - 8) / float64(most)
	width := max(p.x.x(s.Step)-p.x.left-0.6, 3)
	for i, b := range s.Buckets {
		x, failed, unknown := p.x.x(time.Duration(i)*s.Step), float64(b.DueFailed)*unit, float64(b.DueUnknown)*unit
		at := fmt.Sprintf("%s: %d failed, %d unknown", formatTime(time.Duration(i)*s.Step), b.DueFailed, b.DueUnknown)
		if failed > 0 {
			c.rect("failed", x, p.bottom()-max(failed, 2), width, max(failed, 2), at)
		}
		if unknown > 0 {
			c.rect("unknown", x, p.bottom()-failed-max(unknown, 2), width, max(unknown, 2), at)
		}
	}
}

// drawTimes draws the time axis, with at most that many labels.
func drawTimes(c *canvas, x axis, bottom float64, most int) {
	first, last := x.begin.Seconds(), x.end.Seconds()
	step := roundStep(last-first, 0.1, most)
	for i := math.Ceil(first / step); i*step <= last; i++ {
		v := i * step
		at := x.x(time.Duration(v * 1e9))
		c.rule("grid", at, bottom, at, bottom+5, "")
		c.text("tick middle", at, bottom+19, strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64))
	}
}

// data returns the numbers of the buckets; see timeline.Data.
func (s series) data() string {
	var b strings.Builder
	for i, k := range s.Buckets {
		if i > 0 {
			b.WriteByte(';')
		}
		if k == (bucket{}) {
			continue
		}
		fmt.Fprintf(&b, "%d,%d,%d,%d,%d,%d,%d,%d", k.OK, k.Failed, k.Unknown, k.DueFailed, k.DueUnknown,
			k.P50.Microseconds(), k.P99.Microseconds(), k.Max.Microseconds())
	}
	return b.String()
}
