// Command bench runs Holdfast and its peers on this machine, gives each the same load in
// interleaved rounds of one run, and writes what it measured: throughput, CPU per request of each
// tier, latency at a fixed rate, memory.
//
// compare (compare.go) starts each peer (peers.go) with a stack of its own (topology.go) and
// measures every case (cases.go): in a closed loop with wrk (wrk.go), in an open loop (open.go), or
// with idle connections. What the goals compare (goals.go) is measured again pair by pair
// (pairs.go). report.go writes the results.
//
// Benchmarks of single packages are next to their code (go test -bench).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the settings of a run.
type options struct {
	rounds   int
	pairs    int           // additional rounds for what the goals compare
	measure  time.Duration // of one measurement
	warm     time.Duration // length of the load before a measurement
	rate     int           // requests per second in the open loop
	only     []string      // peers; empty: all
	cases    []string      // names of cases, or beginnings of names; empty: all
	holdfast string        // path of the binary
	out      string        // Markdown file; the plot is written next to it
	json     string
	profile  string // file for a CPU profile of Holdfast under all these loads, for the compiler
	quick    bool
}

// run is the whole program. If some measurements failed, it writes the report of the others and
// returns an error.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == ceilingCommand {
		return serveCeiling(ctx, args[1:])
	}
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if runtime.GOOS != "linux" {
		return errors.New("the comparison needs Linux: CPU and memory are read from /proc")
	}
	r, err := compare(ctx, o, stderr)
	if err != nil {
		return err
	}
	r.text(stdout)
	if o.json != "" {
		if err := r.writeJSON(o.json); err != nil {
			return err
		}
	}
	if o.out != "" {
		if err := r.writeMarkdown(o.out); err != nil {
			return err
		}
	}
	if len(r.Failures) > 0 {
		return fmt.Errorf("%d measurements failed; the first: %s", len(r.Failures), r.Failures[0])
	}
	return nil
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var only, cases string
	var seconds float64

	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintf(stderr, "Usage: go run ./bench [flags]\n\nPeers: %s\nCases: %s\n\n", strings.Join(peerNames(), " "), strings.Join(caseNames(), " "))
		f.PrintDefaults()
	}

	f.IntVar(&o.rounds, "rounds", 7, "rounds; what is told are medians over them")
	f.IntVar(&o.pairs, "pairs", 40, "more rounds, of short measurements, of what the goals compare, pair by pair")
	f.Float64Var(&seconds, "seconds", 3, "length of one measurement")
	f.DurationVar(&o.warm, "warm", 500*time.Millisecond, "load before each measurement")
	f.IntVar(&o.rate, "rate", 5000, "requests per second of the open loop")
	f.StringVar(&only, "only", "", "`PEER,...` to measure; default: all")
	f.StringVar(&cases, "cases", "", "`CASE,...` to measure, by name or its beginning; default: all")
	f.StringVar(&o.holdfast, "holdfast", "bin/holdfast", "`PATH` of the binary under test")
	f.StringVar(&o.out, "o", "", "`FILE` for the report in Markdown; its plot goes beside it, as .svg")
	f.StringVar(&o.json, "json", "", "`FILE` for every single measurement")
	f.StringVar(&o.profile, "profile", "", "`FILE` for a CPU profile of Holdfast's node under these loads, which the compiler reads")
	f.BoolVar(&o.quick, "quick", false, "one short round: does everything work? Its figures mean nothing")

	if err := f.Parse(args); err != nil {
		return o, err
	}

	o.measure = time.Duration(seconds * float64(time.Second))
	if o.quick {
		o.rounds, o.pairs, o.measure, o.warm = 1, 1, 300*time.Millisecond, 100*time.Millisecond
	}
	o.only, o.cases = list(only), list(cases)

	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.rounds < 1 || o.pairs < 0 || o.measure < 100*time.Millisecond || o.warm < 0 || o.rate < 1:
		return o, errors.New("rounds and rate have to be 1 or more, pairs 0 or more, a measurement 0.1 s or longer")
	}
	if o.profile != "" && o.measure < time.Second {
		return o, errors.New("a profile needs measurements of 1 s or longer: it is kept for whole seconds")
	}

	for _, name := range o.only {
		if !slices.Contains(peerNames(), name) {
			return o, fmt.Errorf("there is no peer %q; there are %s", name, strings.Join(peerNames(), ", "))
		}
	}
	for _, name := range o.cases {
		if !slices.ContainsFunc(caseNames(), func(c string) bool { return strings.HasPrefix(c, name) }) {
			return o, fmt.Errorf("there is no case %q; there are %s", name, strings.Join(caseNames(), ", "))
		}
	}

	return o, nil
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(c rune) bool { return c == ',' || c == ' ' })
}
