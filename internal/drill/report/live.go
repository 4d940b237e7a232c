package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"holdfast/internal/quote"
)

// plainEvery is the interval between two lines of progress where no line can be redrawn.
const plainEvery = 5 * time.Second

// sparkLength is how many of the latest rates the sparkline shows.
const sparkLength = 24

// Progress describes how far a drill is.
type Progress struct {
	Elapsed time.Duration
	// Of is how long the drill will take; 0: unknown.
	Of time.Duration
	// Phase describes what is being done, such as "killing redis-1".
	Phase    string
	Rate     float64       // successful answers per second
	InFlight int           // operations that wait for an answer
	Longest  time.Duration // how long the longest-waiting operation has waited so far
	Failed   int
	Unknown  int
}

// Live shows a drill's progress. On a terminal these are two lines that are redrawn in place.
// Elsewhere it is one line every five seconds of the drill, and one for each new phase. It is safe
// for concurrent use. Write errors are ignored, because progress is not a result.
type Live struct {
	w        io.Writer
	terminal bool
	columns  func() int

	mu    sync.Mutex
	drawn int // how many lines are on the terminal to be redrawn
	block string
	phase string
	last  time.Duration
	some  bool // a plain line was written
	rates []float64
}

// NewLive returns a Live that writes to w. terminal tells whether w is a terminal. columns returns
// its present width; nil: 80.
func NewLive(w io.Writer, terminal bool, columns func() int) *Live {
	if columns == nil {
		columns = func() int { return 80 }
	}
	return &Live{w: w, terminal: terminal, columns: columns}
}

// Show displays the progress. Call it a few times a second.
func (l *Live) Show(p Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.Phase = quote.Cut(p.Phase, 200)
	if !l.terminal {
		if l.some && p.Phase == l.phase && p.Elapsed-l.last < plainEvery {
			return
		}
		l.phase, l.last, l.some = p.Phase, p.Elapsed, true
		fmt.Fprintf(l.w, "%s  %s: %s\n", clock(p), p.Phase, figures(p))
		return
	}
	l.rates = append(l.rates, p.Rate)
	l.rates = l.rates[max(len(l.rates)-sparkLength, 0):]
	l.block = l.lines(p)
	l.draw("")
}

// Note writes a line that stays, above the progress.
func (l *Live) Note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := quote.Cut(text, 2000) + "\n"
	if l.terminal {
		l.draw(line)
		return
	}
	io.WriteString(l.w, line)
}

// End removes the progress from a terminal, so that only the result remains.
func (l *Live) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.terminal {
		l.block = ""
		l.draw("")
	}
}

// draw replaces what was drawn by lines that stay, followed by the block.
func (l *Live) draw(stay string) {
	var b strings.Builder
	if l.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", l.drawn)
	}
	b.WriteString(stay)
	b.WriteString(l.block)
	l.drawn = strings.Count(l.block, "\n")
	io.WriteString(l.w, b.String()) // in one write, so that the terminal does not flicker
}

// lines returns the block for a terminal. No line may wrap: draw would have to go back over two
// lines then.
func (l *Live) lines(p Progress) string {
	columns := max(l.columns()-1, 20)
	head := shorten(clock(p)+"  "+p.Phase, columns)
	tail := "  " + figures(p)
	if spark := sparkline(l.rates); len([]rune(tail))+2+sparkLength <= columns {
		tail += "  " + dim + spark + plain
	} else {
		tail = shorten(tail, columns)
	}
	if p.Failed > 0 {
		tail = strings.Replace(tail, failedFigure(p), red+failedFigure(p)+plain, 1)
	}
	if p.Unknown > 0 {
		tail = strings.Replace(tail, unknownFigure(p), yellow+unknownFigure(p)+plain, 1)
	}
	return bold + head + plain + "\n" + tail + "\n"
}

// clock returns the time since the drill began, and its length if known.
func clock(p Progress) string {
	s := fmt.Sprintf("%3.0f s", p.Elapsed.Seconds())
	if p.Of > 0 {
		s += fmt.Sprintf(" of %.0f s", p.Of.Seconds())
	}
	return s
}

func figures(p Progress) string {
	return fmt.Sprintf("%5.0f ok/s, %3d in flight, longest %s, %s, %s", p.Rate, p.InFlight, formatDuration(p.Longest), failedFigure(p), unknownFigure(p))
}

func failedFigure(p Progress) string  { return number(p.Failed) + " failed" }
func unknownFigure(p Progress) string { return number(p.Unknown) + " unknown" }

// sparkline draws values as block characters, each in proportion to the largest.
func sparkline(values []float64) string {
	blocks := []rune(" ▁▂▃▄▅▆▇█")
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	var b strings.Builder
	for _, v := range values {
		i := 0
		if most > 0 {
			i = int(v/most*float64(len(blocks)-1) + 0.5)
		}
		b.WriteRune(blocks[min(max(i, 0), len(blocks)-1)])
	}
	return b.String()
}
