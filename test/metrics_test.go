package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"holdfast/internal/plan"
)

// scrapeMetrics returns the metrics at an address: values by series, as "name{labels}".
func scrapeMetrics(t *testing.T, address string) map[string]float64 {
	t.Helper()
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", address, resp.Status, err)
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && !strings.HasPrefix(line, "#") {
			values[line[:i]], _ = strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
		}
	}
	return values
}

func (s *instance) plan() plan.Plan {
	s.t.Helper()
	var p plan.Plan
	if err := json.Unmarshal([]byte(s.must("plan", "--json")), &p); err != nil {
		s.t.Fatal(err)
	}
	return p
}

func TestTheSupervisorTellsPrometheusOfTheWholeStack(t *testing.T) {
	beside(t, oneStack)
	s, st := runningInstance(t, minimal(t))
	p := s.plan()
	expect(t, st.Entry+"/set?key=k&value=v", 200, "OK. We have set k to be v")
	awaitFigure := func(series string, is func(float64) bool) {
		t.Helper()
		s.await(series, 20*time.Second, func() bool {
			value, there := scrapeMetrics(t, p.Metrics)[series]
			return there && is(value)
		})
	}
	equals := func(want float64) func(float64) bool { return func(v float64) bool { return v == want } }
	positive := func(v float64) bool { return v > 0 }
	master := s.master()
	for series, is := range map[string]func(float64) bool{
		"holdfast_stack_ready":                                                               equals(1),
		"holdfast_sentinels_agree":                                                           equals(1),
		"holdfast_redis_linked_replicas":                                                     equals(2),
		`holdfast_supervisor_phase{phase="running"}`:                                         equals(1),
		`holdfast_app_served{app="web",balancer="balancer-2"}`:                               equals(1),
		`holdfast_node_up{app="web",host="local",kind="web",node="web-2"}`:                   equals(1),
		`holdfast_node_role{node="` + master + `",role="master"}`:                            equals(1),
		`holdfast_node_in_rotation{app="web",node="web-1"}`:                                  equals(1),
		`holdfast_node_resident_memory_bytes{node="balancer-1"}`:                             positive,
		`holdfast_redis_append_only_file_ok{node="redis-3"}`:                                 equals(1),
		`haproxy_server_status{balancer="balancer-1",proxy="web",server="web-1",state="UP"}`: equals(1),
		`haproxy_backend_active_servers{balancer="balancer-2",proxy="web"}`:                  equals(2),
		"holdfast_failovers_total":                                                           equals(0),
	} {
		awaitFigure(series, is)
	}
	s.await("the in-sync set of the node that wrote", 20*time.Second, func() bool {
		expect(t, st.Entry+"/set?key=k&value=v", 200, "OK. We have set k to be v") // a node learns of it by its own writes
		now := scrapeMetrics(t, p.Metrics)
		return now[`holdfast_web_in_sync_replicas{node="web-1"}`]+now[`holdfast_web_in_sync_replicas{node="web-2"}`] >= 2
	})

	// Every metric that the example alerts and the dashboard use exists.
	known := map[string]bool{"up": true}
	suffix := regexp.MustCompile(`(_bucket|_sum|_count)?(\{.*)?$`)
	addresses := []string{p.Metrics}
	for _, process := range p.Hosts[0].Processes {
		if process.Admin != "" {
			addresses = append(addresses, process.Admin)
		}
	}
	for _, address := range addresses {
		for series := range scrapeMetrics(t, address) {
			name, _, _ := strings.Cut(series, "{")
			known[name], known[suffix.ReplaceAllString(series, "")] = true, true
		}
	}
	known["holdfast_virtual_address_holders"] = true // only with several hosts
	// Only for an entry with TLS, which TestCertificatesAreTakenUpAndBrokenOnesRefused has.
	known["holdfast_certificate_expiry_timestamp_seconds"], known["holdfast_certificate_refused"] = true, true
	expressions := append(alertExpressions(t), dashboardExpressions(t)...)
	if len(expressions) < 50 {
		t.Errorf("%d expressions", len(expressions))
	}
	for _, e := range expressions {
		for _, name := range regexp.MustCompile(`\b(up|(holdfast|haproxy)_[a-z_]+)\b`).FindAllString(e, -1) {
			if !known[name] {
				t.Errorf("%q has %s, which nobody exports", e, name)
			}
		}
	}

	// A page of another site cannot use its own name to get here.
	req, err := http.NewRequest(http.MethodGet, "http://"+p.Metrics+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example.com"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another host's name gets %s", resp.Status)
	}

	// Events are counted.
	s.must("switchover")
	awaitFigure(`holdfast_switchovers_total{result="done"}`, equals(1))
	s.awaitHealthy()
	was := s.master()
	s.must("kill", was)
	awaitFigure("holdfast_failovers_total", equals(1))
	awaitFigure(`holdfast_node_restarts_total{node="`+was+`"}`, equals(1))
	awaitFigure(`holdfast_node_crashes_total{node="`+was+`"}`, equals(1))
	s.must("restart", "web-1")
	awaitFigure(`holdfast_node_restarts_total{node="web-1"}`, equals(1))
	awaitFigure(`holdfast_node_crashes_total{node="web-1"}`, equals(0)) // the restart was requested
	s.must("stop", "web-2")
	awaitFigure(`holdfast_node_state{node="web-2",state="down"}`, equals(1))
}

func TestMetricsFollowAChangeOfTheirAddress(t *testing.T) {
	beside(t, oneStack)
	text := minimal(t) + "redis: {replicas: 0, sentinels: 0}\nbalancers: 1\n"
	s := newInstance(t, text)
	s.must("up", "-d")
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	s.write("name: " + s.name + "\n" + text + fmt.Sprintf("metrics: {listen: %q}\n", address))
	s.must("apply", "--yes")
	s.await("metrics at the new address", 30*time.Second, func() bool {
		resp, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// alertExpressions returns the expressions of the example alerts. It checks that each alert says
// what it means and what to do.
func alertExpressions(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../docs/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var alerts struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalWithOptions(text, &alerts, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			if seen[r.Alert] || r.Expr == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["action"] == "" {
				t.Errorf("the alert %+v", r)
			}
			seen[r.Alert] = true
			all = append(all, r.Expr)
		}
	}
	return all
}

// dashboardExpressions returns the expressions of the Grafana dashboard.
func dashboardExpressions(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Query any }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		if p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("the panel %+v", p)
		}
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		all = append(all, fmt.Sprint(v.Query))
	}
	return all
}

func TestAMetricsPortOfSomebodyElseIsNamed(t *testing.T) {
	beside(t, oneStack)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newInstance(t, minimal(t)+fmt.Sprintf("metrics: {listen: %q}\n", l.Addr()))
	s.requireUpRefused(1, l.Addr().String(), "taken", fmt.Sprintf("pid %d", os.Getpid()), "metrics.listen")
	s.requireNothingRuns()
}
