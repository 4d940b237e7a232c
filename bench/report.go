package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/renameio/v2"
)

// The figures of a measurement, in requests (commands) per second, seconds and bytes. CPU figures
// are seconds per command, by tier.
const (
	figureRate   = "per second"
	figureP50    = "p50"
	figureP99    = "p99"
	figureP999   = "p99.9"
	figureRSS    = "rss"
	figureIdle   = "per connection"
	figureLate   = "late"
	figureLoader = "loader cpu"
	figureCPU    = "cpu "
)

// report is what was measured, and on which machine.
type report struct {
	Date     time.Time
	Took     time.Duration
	Machine  machine
	Rounds   int
	Measure  time.Duration
	Rate     int
	Failures []string
	// Cells has the measurements of the rounds. Pairs has those that the goals compare, with a
	// round of its own for each pair.
	Cells, Pairs cells
}

// cells holds each figure of each round, by case, subject, figure and round.
type cells map[string]map[string]map[string]map[int]float64

// machine describes the machine, and the versions of the programs.
type machine struct {
	CPU      string
	Cores    int
	Memory   string
	Kernel   string
	System   string
	Versions map[string]string
}

func newReport(o options) *report {
	r := &report{Date: time.Now().UTC(), Rounds: o.rounds, Measure: o.measure, Rate: o.rate, Cells: cells{}, Pairs: cells{}}
	r.Machine = machine{Cores: runtime.NumCPU(), CPU: field("/proc/cpuinfo", "model name"), Memory: field("/proc/meminfo", "MemTotal"),
		System: strings.Trim(field("/etc/os-release", "PRETTY_NAME"), `"`), Versions: map[string]string{
			"Go": strings.TrimPrefix(runtime.Version(), "go"), "Redis": versionOf([]string{"redis-server", "--version"}),
		}}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		r.Machine.Kernel = strings.TrimSpace(string(kernel))
	}
	for _, p := range peers {
		if p.version != nil && (len(o.only) == 0 || slices.Contains(o.only, p.name)) {
			r.Machine.Versions[p.name] = versionOf(p.version)
		}
	}
	if out, err := exec.Command(o.holdfast, "version").Output(); err == nil {
		r.Machine.Versions["holdfast"] = strings.TrimPrefix(strings.SplitN(strings.TrimSpace(string(out)), "\n", 2)[0], "holdfast ")
	}
	return r
}

// field returns the first value with that name in a file of "name: value" or "name=value" lines;
// empty if there is none.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if i := strings.IndexAny(line, ":="); i > 0 && strings.TrimSpace(line[:i]) == name {
			return strings.TrimSpace(line[i+1:])
		}
	}
	return ""
}

// add stores the figures of one measurement.
func (all cells) add(c, s string, round int, figures map[string]float64) {
	if all[c] == nil {
		all[c] = map[string]map[string]map[int]float64{}
	}
	if all[c][s] == nil {
		all[c][s] = map[string]map[int]float64{}
	}
	for name, v := range figures {
		if all[c][s][name] == nil {
			all[c][s][name] = map[int]float64{}
		}
		all[c][s][name][round] = v
	}
}

// figureOf returns a figure over the rounds.
func (all cells) figureOf(c, s, figure string) spread {
	return over(slices.Collect(maps.Values(all[c][s][figure])))
}

// ratio returns the ratio of two figures over the rounds.
func (all cells) ratio(above, below cellName) spread {
	return ratio(all[above.scenario][above.subject][above.figure], all[below.scenario][below.subject][below.figure])
}

// figureOf returns a figure over the rounds of all cases.
func (r *report) figureOf(c, s, figure string) spread { return r.Cells.figureOf(c, s, figure) }

// brief formats one measurement for a line of progress.
func brief(f map[string]float64) string {
	if v, is := f[figureIdle]; is {
		return fmt.Sprintf("%.0f bytes/connection", v)
	}
	return fmt.Sprintf("%7.0f/s  cpu %5.1f µs (server %5.1f)  p50 %s  p99 %s", f[figureRate], f[figureCPU+"all"]*1e6, f[figureCPU+tierServer]*1e6,
		seconds(f[figureP50]), seconds(f[figureP99]))
}

// table is one table of the report.
type table struct {
	title, note string
	head        []string
	rows        [][]string
}

// tables returns all measurements, case by case.
func (r *report) tables() []table {
	all := []table{r.goalTable()}
	for _, c := range scenarios {
		if r.Cells[c.name] == nil {
			continue
		}
		if c.kind == idle {
			all = append(all, r.idleTable(c))
		} else {
			all = append(all, r.loadTable(c))
		}
	}
	return all
}

func (r *report) loadTable(c scenario) table {
	where := "straight"
	if c.behind {
		where = "behind HAProxy"
	}

	t := table{
		title: fmt.Sprintf("%s: %s, values of %s, %s connections, %s", c.name, c.op, size(c.size), thousands(float64(c.connections)), where),
		head:  []string{"", "per second", "± %", "× webdis", "server", "master", "replicas", "Sentinels", "HAProxy", "all tiers", "p50", "p99", "p99.9", "RSS"},
	}

	reference := c.name
	switch c.op {
	case pipeGets:
		reference = "get-64"
		t.note = "Commands per second. Webdis has no pipeline: the ratio is to its single GETs in get-64."
	case pipeSets:
		reference = "set-64"
		t.note = "Commands per second. Webdis has no pipeline: the ratio is to its single SETs in set-64."
	}

	if c.kind == open {
		t.title += fmt.Sprintf(", %s requests/s", thousands(float64(r.Rate)))
		t.head[2], t.head[3] = "± % of p99", "p99 × webdis'"
	}

	for _, s := range subjects {
		if r.Cells[c.name][s.name] == nil {
			continue
		}
		rate, vary := r.figureOf(c.name, s.name, figureRate), figureRate
		if c.kind == open {
			vary = figureP99
		}
		row := []string{s.name, thousands(rate.Median), number(r.figureOf(c.name, s.name, vary).half()*100, 0),
			number(ratio(r.Cells[c.name][s.name][vary], r.Cells[reference]["webdis"][vary]).Median, 2)}
		for _, tier := range append(slices.Clone(tiers), "all") {
			row = append(row, number(r.figureOf(c.name, s.name, figureCPU+tier).Median*1e6, 1))
		}
		for _, f := range []string{figureP50, figureP99, figureP999} {
			row = append(row, seconds(r.figureOf(c.name, s.name, f).Median))
		}
		t.rows = append(t.rows, append(row, number(r.figureOf(c.name, s.name, figureRSS).Median/(1<<20), 0)+" MB"))
	}
	return t
}

func (r *report) idleTable(c scenario) table {
	t := table{
		title: fmt.Sprintf("%s: what one of %s idle connections costs the server, each after one answer", c.name, thousands(float64(c.connections))),
		head:  []string{"", "bytes per connection", "± %", "RSS before"},
	}
	for _, s := range subjects {
		if cost := r.figureOf(c.name, s.name, figureIdle); cost.N > 0 {
			t.rows = append(t.rows, []string{s.name, thousands(cost.Median), number(cost.half()*100, 0),
				number(r.figureOf(c.name, s.name, figureRSS).Median/(1<<20), 0) + " MB"})
		}
	}
	return t
}

// text prints the tables for a terminal.
func (r *report) text(w io.Writer) {
	for _, t := range r.tables() {
		fmt.Fprintf(w, "\n%s\n", t.title)
		if t.note != "" {
			fmt.Fprintln(w, t.note)
		}
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(tw, strings.Join(t.head, "\t")+"\t")
		for _, row := range t.rows {
			fmt.Fprintln(tw, strings.Join(row, "\t")+"\t")
		}
		_ = tw.Flush()
	}
	for _, f := range r.Failures {
		fmt.Fprintln(w, "FAILED:", f)
	}
}

func (r *report) writeJSON(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(path, append(text, '\n'), 0o644)
}

// writeMarkdown writes the report, and the plot next to it.
func (r *report) writeMarkdown(path string) error {
	plot := strings.TrimSuffix(path, filepath.Ext(path)) + ".svg"
	if err := renameio.WriteFile(plot, []byte(r.plot()), 0o644); err != nil {
		return err
	}
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, `# Benchmarks

Written by `+"`make bench`"+` (`+"`go run -pgo=cmd/holdfast/default.pgo ./bench -o docs/benchmarks.md`"+`): Holdfast and its peers on one machine, the same load,
in interleaved rounds of one run. Figures of another machine differ; the ratios should not, by much.

![Throughput](%s)

Measured on %s in %s: %s rounds of %s each, every peer in every round, in another order each time. A figure is the median of
the rounds; ± is half the distance between the least and the greatest. A ratio is the median of the rounds' own ratios.%s

Machine: %s, %d cores, %s of memory, Linux %s, %s. Loader, servers, Redis and HAProxy share its cores.

Versions: %s.

## What was compared

| | |
|---|---|
`, filepath.Base(plot), r.Date.Format("2006-01-02"), r.Took, thousands(float64(r.Rounds)), r.Measure, r.pairing(), m.CPU, m.Cores, m.Memory, m.Kernel, m.System, versions(m.Versions))
	for _, s := range subjects {
		what := s.what
		for _, p := range peers {
			if p.name == s.peer && what == "" {
				what = p.what
			} else if p.name == s.peer && s.name == s.peer {
				what = p.what + ": " + what
			}
		}
		fmt.Fprintf(&b, "| %s | %s |\n", s.name, cell(what))
	}
	b.WriteString(`
Each has a Redis of its own: a master and two replicas with the settings of a stack (append-only file on), for Holdfast three
Sentinels too. Behind HAProxy means behind the configuration that a stack generates, each peer's server in the place of the web
node; that gives every request a key of its own (Holdfast-Attempt), so that a SET there is one that may be repeated. A peer's plain SET is
acknowledged by the master alone, Holdfast's by both replicas.

The closed loop is wrk: each connection sends when it got its answer. At a fixed rate latency counts from when a request was due,
not from when it could be sent. Every body is checked at a fixed rate; in the closed loop every status, some bodies after each
load, and of each SET that master and replicas have the value. One wrong answer fails the measurement. CPU is user and system
time of all processes of a tier, in microseconds per request (per command in pipelines); RSS is the server's. The source's
application is measured with 64 connections in the closed loop alone. Webdis is started anew for each measurement: when clients
broke off while it worked for them, it was seen to give later clients the answers of others, with status 200.

`)
	for _, t := range r.tables() {
		fmt.Fprintf(&b, "## %s\n\n", t.title)
		if t.note != "" {
			fmt.Fprintf(&b, "%s\n\n", t.note)
		}
		fmt.Fprintf(&b, "| %s |\n|---|%s\n", strings.Join(t.head, " | "), strings.Repeat("---:|", len(t.head)-1))
		for _, row := range t.rows {
			for i := range row {
				row[i] = cell(row[i])
			}
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
		b.WriteString("\n")
	}
	if len(r.Failures) > 0 {
		b.WriteString("## Failed\n\n")
		for _, f := range r.Failures {
			fmt.Fprintf(&b, "- %s\n", cell(f))
		}
	}
	return renameio.WriteFile(path, []byte(strings.TrimRight(b.String(), "\n")+"\n"), 0o644)
}

// pairing describes how pairs were measured, if they were.
func (r *report) pairing() string {
	if len(r.Pairs) == 0 {
		return ""
	}
	return fmt.Sprintf(` What the
goals compare in the closed loop was measured again after that, in rounds of its own: for %s each, the two of a pair one right
after the other (but that webdis is started anew in between), now this one first and now that, and only the servers that they are
about were still there, after every %d rounds in processes of their own. CPU is counted in ticks of 10 ms, of which there are few in
so short a time: that its quarters are far apart is due to that, too.`, min(r.Measure, slice), roundsPerStart)
}

// cell escapes a text for a cell of a table.
func cell(s string) string { return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s) }

func versions(v map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		all = append(all, name+" "+v[name])
	}
	return strings.Join(all, ", ")
}

// size formats a number of bytes.
func size(n int) string {
	if n%1024 == 0 {
		return fmt.Sprintf("%d KB", n/1024)
	}
	return fmt.Sprintf("%d bytes", n)
}

// number formats a figure; a dash if there is none.
func number(v float64, digits int) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, v)
}

// thousands formats a number with commas.
func thousands(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	s := fmt.Sprintf("%.0f", math.Abs(v))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if v <= -0.5 {
		s = "-" + s
	}
	return s
}

// seconds formats a latency with three digits.
func seconds(v float64) string {
	switch {
	case math.IsNaN(v) || v == 0:
		return "–"
	case v < 1e-3:
		return fmt.Sprintf("%.0f µs", v*1e6)
	case v < 1:
		return fmt.Sprintf("%.3g ms", v*1e3)
	default:
		return fmt.Sprintf("%.3g s", v)
	}
}
