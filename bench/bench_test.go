package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedianAndRangeOverRounds(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3, 3, 3, 1}},
		{[]float64{9, 1, 5}, spread{5, 1, 9, 1, 9, 3}},
		{[]float64{4, 1, 2, 3}, spread{2.5, 1, 4, 1, 4, 4}},
		{[]float64{5, 3, 1, 4, 2}, spread{3, 1, 5, 2, 4, 5}},
	} {
		if got := over(c.values); got != c.want {
			t.Errorf("over %v is %v, want %v", c.values, got, c.want)
		}
	}
	if got := over(nil); !math.IsNaN(got.Median) || got.N != 0 {
		t.Errorf("over nothing is %v", got)
	}
	if got := (spread{Median: 100, Min: 90, Max: 120}).half(); got != 0.15 {
		t.Errorf("half the range is %v of the median, want 0.15", got)
	}
}

func TestARatioIsThatOfTheSameRounds(t *testing.T) {
	got := ratio(map[int]float64{0: 10, 1: 30, 2: 80, 3: 1}, map[int]float64{0: 10, 1: 10, 2: 40})
	if want := (spread{2, 1, 3, 1, 3, 3}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestProcessTimesAreRead(t *testing.T) {
	const line = "4711 (a (b) c) S 12 1 1 0 -1 4194560 100 0 0 0 150 50 7 3 20 0 5 0 999 123456 25 18446744073709551615 1 1"
	got, err := parseStat(line, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if got.parent != 12 || got.cpu != 2100*time.Millisecond || got.rss != 25*4096 {
		t.Errorf("got %+v", got)
	}
	for _, bad := range []string{"", "1 (x) S 1", strings.Replace(line, " 150 ", " many ", 1)} {
		if _, err := parseStat(bad, 4096); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestATierIsItsProcessesAndTheirDescendants(t *testing.T) {
	stats := map[int]stat{
		1: {0, usage{1, 1}}, 10: {1, usage{2, 20}}, 11: {10, usage{3, 30}}, 12: {11, usage{4, 40}}, 13: {1, usage{100, 100}},
	}
	if got, want := usageOf(stats, []int{10}), (usage{9, 90}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestThisProcessUsesCPU(t *testing.T) {
	stats, err := readStats()
	if err != nil {
		t.Fatal(err)
	}
	if got := usageOf(stats, []int{os.Getpid()}); got.rss < 1<<20 {
		t.Errorf("this process has %d bytes of memory", got.rss)
	}
}

func TestAnswersOfEveryFramingAreRead(t *testing.T) {
	for name, text := range map[string]string{
		"length":     "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"chunks":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
		"to the end": "HTTP/1.0 200 OK\r\nX: y\r\n\r\nhello",
	} {
		a, err := readAnswer(bufio.NewReader(strings.NewReader(text)), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if err := a.checkBody("hello"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if a.closes != (name == "to the end") {
			t.Errorf("%s: closes is %v", name, a.closes)
		}
	}
	for _, text := range []string{"", "hello\n", "HTTP/1.1 2xx OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"} {
		if _, err := readAnswer(bufio.NewReader(strings.NewReader(text)), nil); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	if err := (answer{status: 500, body: []byte("hello")}).checkBody("hello"); err == nil {
		t.Error("a 500 is right")
	}
}

func TestALoadWithAnErrorIsNone(t *testing.T) {
	good := `noise @RESULT@{"micros":2000000,"requests":100,"connect":0,"read":0,"write":0,"status":0,"timeout":0,"p50":10,"p99":20,"p999":30}`
	l, err := parseWrk([]byte(good))
	if err != nil || l.requests != 100 || l.took != 2*time.Second || l.p999 != 30*time.Microsecond {
		t.Errorf("got %+v, %v", l, err)
	}
	for _, bad := range []string{
		"", strings.Replace(good, `"status":0`, `"status":1`, 1), strings.Replace(good, `"timeout":0`, `"timeout":1`, 1), strings.Replace(good, `"requests":100`, `"requests":0`, 1),
	} {
		if _, err := parseWrk([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestOnlyTheServerDiffersBehindHAProxy(t *testing.T) {
	top, err := newTopology(t.TempDir(), "golden")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(top.dir, "nodes", "balancer-1", "haproxy.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	same, err := balancerConfig(string(text), top.server, "/healthz/ready", "")
	if err != nil {
		t.Fatal(err)
	}
	other, err := balancerConfig(string(text), "127.0.0.1:1", "/other", "")
	if err != nil {
		t.Fatal(err)
	}
	if same != string(text) {
		t.Error("putting in what is there changed something")
	}
	was, is := strings.Split(same, "\n"), strings.Split(other, "\n")
	if len(was) != len(is) {
		t.Fatal("lines were added or lost")
	}
	changed := 0
	for i := range was {
		if was[i] != is[i] {
			changed++
		}
	}
	if changed != 3 {
		t.Errorf("%d lines differ, want the server's in both backends and its check's", changed)
	}
	if _, err := balancerConfig("global\n", "127.0.0.1:1", "/", ""); err == nil {
		t.Error("a configuration without a server was taken")
	}
}

func TestEveryCaseHasSubjectsAndGoodRequests(t *testing.T) {
	for _, c := range scenarios {
		if len(c.subjectsOf(nil)) == 0 {
			t.Errorf("%s is for nobody", c.name)
		}
	}
	c := chosen([]string{"get-1"})
	if len(c) != 1 || c[0].name != "get-1" {
		t.Errorf("get-1 means %v", c)
	}
	if n := len(chosen([]string{"haproxy"})); n != 6 {
		t.Errorf("haproxy means %d cases, want 6", n)
	}
	for _, g := range goals {
		for _, cell := range []cellName{g.above, g.below} {
			if cell.scenario == "" {
				continue
			}
			found := false
			for _, c := range chosen([]string{cell.scenario}) {
				for _, s := range c.subjectsOf(nil) {
					found = found || s.name == cell.subject
				}
			}
			if !found {
				t.Errorf("the goal %q is about %s of %s, which nobody measures", g.what, cell.scenario, cell.subject)
			}
		}
	}
}

func TestGoalsAreJudged(t *testing.T) {
	r := newReport(options{rounds: 3})
	for round, ours := range []float64{10, 14, 15} {
		r.Cells.add("get-64", "holdfast", round, map[string]float64{figureRate: ours})
		r.Cells.add("get-64", "webdis", round, map[string]float64{figureRate: 10})
	}
	if s, reached := goals[0].reached(r); s.Median != 1.4 || reached != "yes" {
		t.Errorf("got %v, %s", s, reached)
	}
	if _, reached := goals[1].reached(r); reached != "not measured" {
		t.Errorf("got %s", reached)
	}
	r.Cells.add("get-64", "holdfast", 1, map[string]float64{figureRate: 9})
	if _, reached := goals[0].reached(r); reached != "no" {
		t.Errorf("got %s", reached)
	}
	// Figures that were measured in pairs are compared only within their pair.
	for round, ours := range []float64{20, 30, 40} {
		r.Pairs.add("get-64", "holdfast", round, map[string]float64{figureRate: ours})
		r.Pairs.add("get-64", "webdis", round, map[string]float64{figureRate: ours / 2})
	}
	r.Pairs.add("get-64", "holdfast", 3, map[string]float64{figureRate: 1000})
	if s, reached := goals[0].reached(r); s.Median != 2 || s.N != 3 || reached != "yes" {
		t.Errorf("got %v, %s", s, reached)
	}
}

func TestGoalsAreMeasuredInPairs(t *testing.T) {
	all := pairs()
	want := pair{{"haproxy-get-64", "holdfast"}, {"haproxy-get-64", "ceiling"}}
	if !slices.Contains(all, want) {
		t.Errorf("%v is not among the pairs %v", want, all)
	}
	for i, p := range all {
		if slices.Contains(all[:i], p) {
			t.Errorf("%v is there twice", p)
		}
		for _, part := range p {
			if c, s := part.lookUp(); c.kind != closed || !slices.ContainsFunc(c.subjectsOf(nil), func(other subject) bool { return other.name == s.name }) {
				t.Errorf("%v is measured by nobody", part)
			}
		}
	}
}

// Holdfast and the ceiling need only the packages of a stack, and the open loop does not need wrk.
func TestAQuickRunMeasuresAndLeavesNothing(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "holdfast")
	build := exec.Command("go", "build", "-pgo=off", "-o", binary, "holdfast/cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	temp, err := os.MkdirTemp("/tmp", "hb") // short, because of the path of HAProxy's socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	t.Setenv("TMPDIR", temp)
	o := options{rounds: 1, measure: 300 * time.Millisecond, warm: 50 * time.Millisecond, rate: 200, quick: true,
		only: []string{"holdfast", "ceiling"}, cases: []string{"rate-get-64", "rate-set-64"}, holdfast: binary}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := compare(ctx, o, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Failures) > 0 {
		t.Fatal(r.Failures)
	}
	for _, want := range []cellName{
		{"rate-get-64", "ceiling", figureRate}, {"rate-get-64", "holdfast", figureRate}, {"rate-set-64", "holdfast", figureRate},
	} {
		if rate := r.figureOf(want.scenario, want.subject, want.figure); !(math.Abs(rate.Median-200) <= 10) {
			t.Errorf("%s of %s: %v requests/s were answered, want 200", want.scenario, want.subject, rate.Median)
		}
		if p99 := r.figureOf(want.scenario, want.subject, figureP99); !(p99.Median > 0) {
			t.Errorf("%s of %s: p99 is %v", want.scenario, want.subject, p99.Median)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(temp, "bench-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	stats, err := readStats()
	if err != nil {
		t.Fatal(err)
	}
	for pid, s := range stats {
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if s.parent == os.Getpid() && bytes.Contains(command, []byte(temp)) {
			t.Errorf("still runs: %q", command)
		}
	}
	var text bytes.Buffer
	r.text(&text)
	if !strings.Contains(text.String(), "holdfast") {
		t.Errorf("the report does not tell of it:\n%s", text.String())
	}
}

// TestMain makes the test binary act as this program when the program starts itself as the ceiling.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ceilingCommand {
		main()
		return
	}
	os.Exit(m.Run())
}
