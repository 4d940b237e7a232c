package main

import (
	"fmt"
	"strconv"
)

// goal is a bound that a figure of Holdfast has to reach.
type goal struct {
	what  string
	above cellName
	below cellName // the divisor; empty: 1
	least bool     // the bound is a minimum; otherwise a maximum
	bound float64
	unit  string
}

// cellName names a figure of the report.
type cellName struct{ scenario, subject, figure string }

var goals = []goal{
	{"GET from the master against webdis", cellName{"get-64", "holdfast", figureRate}, cellName{"get-64", "webdis", figureRate}, true, 1.3, "×"},
	{"CPU per GET against webdis", cellName{"get-64", "holdfast", figureCPU + tierServer}, cellName{"get-64", "webdis", figureCPU + tierServer}, false, 0.65, "×"},
	{"GET behind HAProxy against the ceiling behind it", cellName{"haproxy-get-64", "holdfast", figureRate}, cellName{"haproxy-get-64", "ceiling", figureRate}, true, 0.85, "×"},
	{"SET on both replicas against webdis' plain SET", cellName{"set-64", "holdfast", figureRate}, cellName{"set-64", "webdis", figureRate}, true, 1, "×"},
	{"SET behind HAProxy against webdis' plain SET behind it", cellName{"haproxy-set-64", "holdfast", figureRate}, cellName{"haproxy-set-64", "webdis", figureRate}, true, 1, "×"},
	{"CPU of all tiers per SET behind HAProxy against webdis'", cellName{"haproxy-set-64", "holdfast", figureCPU + "all"}, cellName{"haproxy-set-64", "webdis", figureCPU + "all"}, false, 1, "×"},
	{"one SET at a time against webdis' plain SET", cellName{"set-1", "holdfast", figureRate}, cellName{"set-1", "webdis", figureRate}, true, 0.7, "×"},
	{"cached GET against the ceiling for the same requests and answers", cellName{"get-64", "holdfast-cached", figureRate}, cellName{"get-64", "ceiling-cached", figureRate}, true, 0.9, "×"},
	{"cached GET against the ceiling without the header Holdfast-Read", cellName{"get-64", "holdfast-cached", figureRate}, cellName{"get-64", "ceiling", figureRate}, true, 0.9, "×"},
	{"GET against the source's application, both behind HAProxy", cellName{"haproxy-get-64", "holdfast", figureRate}, cellName{"haproxy-get-64", "flask", figureRate}, true, 25, "×"},
	{"GET behind HAProxy with 2,000 connections against 64", cellName{"haproxy-get-2000", "holdfast", figureRate}, cellName{"haproxy-get-64", "holdfast", figureRate}, true, 0.7, "×"},
	{"GET behind HAProxy with 8,000 connections against 64", cellName{"haproxy-get-8000", "holdfast", figureRate}, cellName{"haproxy-get-64", "holdfast", figureRate}, true, 0.7, "×"},
	{"SET behind HAProxy with 2,000 connections against 64", cellName{"haproxy-set-2000", "holdfast", figureRate}, cellName{"haproxy-set-64", "holdfast", figureRate}, true, 0.7, "×"},
	{"SET behind HAProxy with 8,000 connections against 64", cellName{"haproxy-set-8000", "holdfast", figureRate}, cellName{"haproxy-set-64", "holdfast", figureRate}, true, 0.7, "×"},
	{"memory of an idle connection", cellName{"idle-2000", "holdfast", figureIdle}, cellName{}, false, 8192, "bytes"},
	{"p99 with 8,000 connections against 64", cellName{"rate-get-8000", "holdfast", figureP99}, cellName{"rate-get-64", "holdfast", figureP99}, false, 2, "×"},
}

// reached returns the figure of a goal, and whether it reaches the bound. It uses the measurements
// of the goal's pair if there are any.
func (g goal) reached(r *report) (spread, string) {
	var s spread
	if g.below == (cellName{}) {
		s = r.figureOf(g.above.scenario, g.above.subject, g.above.figure)
	} else if s = r.Pairs.ratio(g.above, g.below); s.N == 0 {
		s = r.Cells.ratio(g.above, g.below)
	}
	switch {
	case s.N == 0:
		return s, "not measured"
	case g.least && s.Median >= g.bound || !g.least && s.Median <= g.bound:
		return s, "yes"
	default:
		return s, "no"
	}
}

func (r *report) goalTable() table {
	t := table{title: "Goals", head: []string{"", "goal", "measured", "a quarter below", "a quarter above", "rounds", "reached"}}
	for _, g := range goals {
		s, reached := g.reached(r)
		sign := "≤"
		if g.least {
			sign = "≥"
		}
		digits := 2
		if g.unit == "bytes" {
			digits = 0
		}
		t.rows = append(t.rows, []string{g.what, fmt.Sprintf("%s %g %s", sign, g.bound, g.unit),
			number(s.Median, digits), number(s.Low, digits), number(s.High, digits), strconv.Itoa(s.N), reached})
	}
	return t
}
