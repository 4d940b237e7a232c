package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// class is the class of a drawn element. It is a type of its own, so that only constants of this
// package become classes, and no text of a history.
type class string

// canvas draws SVG. Numbers, classes and outlines are written as they are; every other text is
// escaped.
type canvas struct{ b strings.Builder }

// open begins a picture; width and height are in pixels. Title and description are for screen
// readers. name and number make its ids unique on the page.
func (c *canvas) open(name class, number int, width, height float64, title, description string) {
	id := string(name) + strconv.Itoa(number)
	c.b.WriteString(`<svg class="` + string(name) + `" viewBox="0 0 ` + coordinate(width) + ` ` + coordinate(height) +
		`" role="img" aria-labelledby="` + id + `t ` + id + `d"><title id="` + id + `t">` + drawable.Replace(title) +
		`</title><desc id="` + id + `d">` + drawable.Replace(description) + "</desc>\n")
}

// close ends the picture and returns it.
func (c *canvas) close() markup {
	c.b.WriteString("</svg>")
	return markup(c.b.String())
}

// coordinate formats a number, rounded to a tenth of a pixel.
func coordinate(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "0"
	}
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}

// attributes writes name="number" pairs.
func (c *canvas) attributes(names string, numbers ...float64) {
	for i, name := range strings.Fields(names) {
		c.b.WriteString(` ` + name + `="` + coordinate(numbers[i]) + `"`)
	}
}

// rect draws a rectangle. A hint, if not empty, appears on hover.
func (c *canvas) rect(k class, x, y, width, height float64, hint string) {
	c.b.WriteString(`<rect class="` + string(k) + `"`)
	c.attributes("x y width height", x, y, max(width, 0), max(height, 0))
	c.finish("rect", hint)
}

// rule draws a line.
func (c *canvas) rule(k class, x1, y1, x2, y2 float64, hint string) {
	c.b.WriteString(`<line class="` + string(k) + `"`)
	c.attributes("x1 y1 x2 y2", x1, y1, x2, y2)
	c.finish("line", hint)
}

func (c *canvas) finish(element class, hint string) {
	if hint == "" {
		c.b.WriteString("/>\n")
		return
	}
	c.b.WriteString("><title>" + drawable.Replace(hint) + "</title></" + string(element) + ">\n")
}

// text writes an escaped text.
func (c *canvas) text(k class, x, y float64, s string) {
	c.b.WriteString(`<text class="` + string(k) + `"`)
	c.attributes("x y", x, y)
	c.b.WriteString(">" + drawable.Replace(s) + "</text>\n")
}

// titled writes a title, followed by an explanation in a lighter style.
func (c *canvas) titled(x, y float64, title, more string) {
	c.b.WriteString(`<text class="title"`)
	c.attributes("x y", x, y)
	c.b.WriteString(`><tspan class="heading">` + drawable.Replace(title) + `</tspan><tspan class="unit" dx="8">` +
		drawable.Replace(more) + "</tspan></text>\n")
}

// draw draws an outline.
func (c *canvas) draw(k class, p path, hint string) {
	if p.b.Len() == 0 {
		return
	}
	c.b.WriteString(`<path class="` + string(k) + `" d="` + p.b.String() + `"`)
	c.finish("path", hint)
}

// path is an outline, in the syntax of SVG.
type path struct{ b strings.Builder }

func (p *path) move(x, y float64) { p.b.WriteString("M" + coordinate(x) + " " + coordinate(y)) }
func (p *path) line(x, y float64) { p.b.WriteString("L" + coordinate(x) + " " + coordinate(y)) }
func (p *path) across(x float64)  { p.b.WriteString("H" + coordinate(x)) }
func (p *path) down(y float64)    { p.b.WriteString("V" + coordinate(y)) }

// dot adds a point. It is visible only if the class has round line ends.
func (p *path) dot(x, y int) { fmt.Fprintf(&p.b, "M%d %dh0", x, y) }
func (p *path) shut()        { p.b.WriteString("Z") }

// textWidth returns the approximate width of a text of 12 pixels.
func textWidth(s string) float64 { return 6.7 * float64(len([]rune(s))) }

// roundStep returns the smallest of 1, 2, 5, 10, 20, 50… times unit of which at most that many
// steps fit into whole.
func roundStep(whole, unit float64, most int) float64 {
	step := unit
	for {
		for _, factor := range []float64{1, 2, 5} {
			if whole <= step*factor*float64(most) {
				return step * factor
			}
		}
		step *= 10
	}
}

// axis maps times to pixels.
type axis struct {
	begin, end  time.Duration
	left, right float64
}

func (a axis) x(t time.Duration) float64 {
	if a.end <= a.begin {
		return a.left
	}
	return a.left + min(max(float64(t-a.begin)/float64(a.end-a.begin), 0), 1)*(a.right-a.left)
}
