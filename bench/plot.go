package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// plotted are the cases in the plot, one panel for each.
var plotted = []string{"get-64", "set-64", "haproxy-get-64", "haproxy-set-64"}

// plot draws the throughput of the main cases as an SVG. A bar is the median; its line goes from
// the lowest to the highest round.
func (r *report) plot() string {
	const (
		width, label, panelGap = 960, 150, 34
		bar, gap, top          = 18, 6, 46
		digits                 = 70 // room to the right of the longest bar
	)

	var b strings.Builder
	y := top
	for _, name := range plotted {
		var most float64
		for _, s := range subjects {
			if v := r.figureOf(name, s.name, figureRate); v.N > 0 {
				most = math.Max(most, v.Max)
			}
		}
		if most == 0 {
			continue
		}
		fmt.Fprintf(&b, `<text x="16" y="%d" class="panel">%s</text>`+"\n", y, html.EscapeString(caption(name)))
		y += 14
		scale := float64(width-label-digits) / most
		for _, s := range subjects {
			v := r.figureOf(name, s.name, figureRate)
			if v.N == 0 {
				continue
			}
			middle := float64(y) + bar/2
			fmt.Fprintf(&b, `<text x="%d" y="%.1f" class="name">%s</text>`, label-8, middle+4, html.EscapeString(s.name))
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" class="%s"/>`, label, y, v.Median*scale, bar, shade(s))
			fmt.Fprintf(&b, `<path d="M%.1f %.1fH%.1f" class="range"/>`, label+v.Min*scale, middle, label+v.Max*scale)
			fmt.Fprintf(&b, `<text x="%.1f" y="%.1f">%s</text>`+"\n", label+math.Max(v.Max, v.Median)*scale+6, middle+4, thousands(v.Median))
			y += bar + gap
		}
		y += panelGap
	}

	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="12" role="img">
<title>Requests per second of Holdfast and its peers</title>
<style>
rect.ours { fill: #1b6e5a } rect.peer { fill: #9aa5b1 } rect.bound { fill: #d8dde3 }
text { fill: #222 } .name { text-anchor: end } .panel { font-weight: 600; font-size: 14px } .range { stroke: #222; stroke-width: 1.5 }
</style>
<rect width="%d" height="%d" fill="#fff"/>
<text x="16" y="22" fill="#555">Requests per second, median of %d rounds; the line: least to greatest.</text>
%s</svg>
`, width, y, width, y, r.Rounds, b.String())
}

// caption describes a case.
func caption(name string) string {
	for _, c := range scenarios {
		if c.name == name {
			where := "straight"
			if c.behind {
				where = "behind HAProxy"
			}
			return fmt.Sprintf("%s of %s, %d connections, %s", c.op, size(c.size), c.connections, where)
		}
	}
	return name
}

// shade returns the colour class: Holdfast, a peer, or a server with a fixed value.
func shade(s subject) string {
	switch {
	case s.fixed:
		return "bound"
	case s.peer == "holdfast":
		return "ours"
	default:
		return "peer"
	}
}
