package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/token"
)

// admin serves a server's admin routes until the test ends.
func admin(t *testing.T, s *Server) (base string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.ServeAdmin(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("ServeAdmin: %v", err)
		}
	})
	return "http://" + ln.Addr().String()
}

// sample matches a line of Prometheus' text format.
var sample = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\.)*",?)*\})?) (\S+)$`)

// scrape returns all samples; a line that is not a sample fails the test.
func scrape(t *testing.T, base string) map[string]float64 {
	t.Helper()
	status, _, text := call(t, "GET", base+"/metrics", "")
	if status != 200 {
		t.Fatalf("/metrics: %d %s", status, text)
	}
	values := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "# ") {
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not a sample: %q", line)
		}
		value, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		values[m[1]] = value
	}
	return values
}

func TestTheMetricsTellWhatHappened(t *testing.T) {
	client, master := single(t)
	base, server, _ := serveWith(t, Config{Tokens: tokens(t, token.Entry{Name: "a"})}, client)
	at := admin(t, server)
	for range 3 {
		run(t, base, "a", "SET", "secret-key", "secret-value")
	}
	run(t, base, "a", "HGETALL", "h")
	run(t, base, "a", "NOSUCHCOMMAND", "x")
	run(t, base, "a", "LPUSH", "secret-key", "x") // WRONGTYPE
	call(t, "GET", base+"/get?key=secret-key&_token=token+of+a", "")
	call(t, "GET", base+"/get?key=none&_token=token+of+a", "")
	call(t, "GET", base+"/get?key=secret-key", "")
	call(t, "BREW", base+"/get?key=secret-key&_token=token+of+a", "")

	got := scrape(t, at)
	for name, want := range map[string]float64{
		`holdfast_http_requests_total{class="string",method="POST",status="200"}`:      3,
		`holdfast_http_requests_total{class="hash",method="POST",status="200"}`:        1,
		`holdfast_http_requests_total{class="other",method="POST",status="400"}`:       1,
		`holdfast_http_requests_total{class="list",method="POST",status="400"}`:        1,
		`holdfast_http_requests_total{class="string",method="GET",status="200"}`:       1,
		`holdfast_http_requests_total{class="string",method="GET",status="404"}`:       1,
		`holdfast_http_requests_total{class="unauthorized",method="GET",status="401"}`: 1,
		`holdfast_http_request_seconds_count{class="hash"}`:                            1,
		`holdfast_tokens_refused_total`:                                                1,
		`holdfast_http_requests_in_flight`:                                             0,
		`holdfast_ready`:                                                               1,
		`holdfast_redis_master_info{address="` + master.Addr + `"}`:                    1,
		`holdfast_redis_master_known`:                                                  1,
		`holdfast_redis_in_sync_replicas`:                                              0,
		`holdfast_held_requests`:                                                       0,
		`holdfast_unknown_outcomes_total`:                                              0,
	} {
		if value, there := got[name]; !there || value != want {
			t.Errorf("%s is %v (there: %v), want %v", name, value, there, want)
		}
	}
	for _, name := range []string{"holdfast_redis_batch_operations_count", "holdfast_http_connections", "go_goroutines", "process_resident_memory_bytes"} {
		if got[name] < 1 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	for name := range got {
		if strings.Contains(name, "secret") || strings.Contains(strings.ToLower(name), "nosuch") || strings.Contains(name, "BREW") {
			t.Errorf("a client chose the series %s", name)
		}
	}
}

func TestMetricsAndProfilesAreOnTheAdminListenerAlone(t *testing.T) {
	client, _ := single(t)
	base, server, stop := serveWith(t, Config{}, client)
	at := admin(t, server)
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap?debug=1", "/debug/pprof/goroutine?debug=2", "/healthz"} {
		if status, _, body := call(t, "GET", at+path, ""); status != 200 {
			t.Errorf("admin%s: %d %.100s", path, status, body)
		}
		if path == "/healthz" {
			continue
		}
		if status, _, body := call(t, "GET", base+path, ""); status != 404 {
			t.Errorf("clients' %s: %d %.100s", path, status, body)
		}
	}
	if status, _, _ := call(t, "GET", at+"/get?key=a", ""); status != 404 {
		t.Errorf("data on the admin listener: %d", status)
	}
	stop()
	if status, _, _ := call(t, "GET", at+"/healthz", ""); status != 503 {
		t.Errorf("after the end the admin hears %d", status)
	}
	if scrape(t, at)["holdfast_ready"] != 0 {
		t.Error("after the end the node is ready")
	}
}

// lines is a writer that several goroutines may use.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.buf.Write(p) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.buf.String() }
func (l *lines) count() int                  { return strings.Count(l.String(), "\n") }

func TestTheAccessLogHasALinePerRequestAndNoSecret(t *testing.T) {
	client, _ := single(t)
	var log lines
	cfg := Config{AccessLog: 1, Access: slog.New(slog.NewJSONHandler(&log, nil)), Tokens: tokens(t, token.Entry{Name: "shop"})}
	base, _, _ := serveWith(t, cfg, client)
	run(t, base, "shop", "SET", "secret-key", "secret-value")
	call(t, "GET", base+"/set/secret-key/secret-value?_token=token+of+shop", "", "X-Forwarded-For", "10.1.2.3")
	call(t, "GET", base+"/get?key=secret-key&_token=secret-token", "", "X-Forwarded-For", strings.Repeat("6.6.6.6, ", 20)+"10.1.2.4")
	redistest.Eventually(t, 5*time.Second, "three lines are written", func() bool { return log.count() == 3 })
	if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), "token of") {
		t.Errorf("the log tells too much:\n%s", log.String())
	}
	var got []map[string]any
	for _, line := range strings.Split(strings.TrimSpace(log.String()), "\n") {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		got = append(got, fields)
	}
	if f := got[0]; f["method"] != "POST" || f["class"] != "string" || f["status"] != 200.0 || f["token"] != "shop" || f["client"] == "" || f["micros"].(float64) <= 0 || f["out"].(float64) <= 0 {
		t.Errorf("the first is %v", f)
	}
	if got[1]["forwarded"] != "10.1.2.3" || got[2]["status"] != 401.0 || got[2]["class"] != "unauthorized" || !strings.HasSuffix(got[2]["forwarded"].(string), " 10.1.2.4") {
		t.Errorf("the others are %v", got[1:])
	}
}

func TestTheAccessLogTakesAFractionAndIsOffByDefault(t *testing.T) {
	client, _ := single(t)
	for fraction, want := range map[float64]func(int) bool{
		0:   func(n int) bool { return n == 0 },
		0.5: func(n int) bool { return 50 < n && n < 150 }, // of 200; fails by chance once in 1e11 runs
	} {
		var log lines
		base, _, stop := serveWith(t, Config{AccessLog: fraction, Access: slog.New(slog.NewJSONHandler(&log, nil))}, client)
		for range 200 {
			call(t, "GET", base+"/get?key=a", "")
		}
		stop()
		if !want(log.count()) {
			t.Errorf("%v: %d lines", fraction, log.count())
		}
	}
}

// receiver is a small OTLP receiver.
type receiver struct {
	mu    sync.Mutex
	spans []*spans.Span
	paths map[string]bool
	raw   []byte
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var batch spans.TracesData // encoded like ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &batch)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paths[req.URL.Path] = true
	r.raw = append(r.raw, body...)
	for _, resource := range batch.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
}

func attributes(s *spans.Span) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes {
		if n := a.Value.GetIntValue(); n != 0 {
			all[a.Key] = strconv.FormatInt(n, 10)
			continue
		}
		all[a.Key] = a.Value.GetStringValue()
	}
	return all
}

func TestATraceIsContinuedThroughToRedis(t *testing.T) {
	client, _ := single(t)
	r := &receiver{paths: map[string]bool{}}
	otlp := httptest.NewServer(r)
	defer otlp.Close()
	base, _, stop := serveWith(t, Config{Node: "web-1", Trace: otlp.URL, Tokens: tokens(t, token.Entry{Name: "a"})}, client)
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	status, _, body := call(t, "POST", base+"/", `["SET","secret-key","secret-value"]`, "Authorization", "Bearer token of a", "traceparent", "00-"+trace+"-"+parent+"-01")
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	call(t, "POST", base+"/", `["GET","secret-key"]`, "Authorization", "Bearer token of a", "traceparent", "00-"+trace+"-"+parent+"-00") // not sampled
	stop()                                                                                                                               // sends what is left
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.paths["/v1/traces"] || len(r.spans) != 2 {
		t.Fatalf("%d spans came to %v", len(r.spans), r.paths)
	}
	var server, child *spans.Span
	for _, s := range r.spans {
		switch s.Kind {
		case spans.Span_SPAN_KIND_SERVER:
			server = s
		case spans.Span_SPAN_KIND_CLIENT:
			child = s
		}
		if fmt.Sprintf("%x", s.TraceId) != trace {
			t.Errorf("%s is of another trace", s.Name)
		}
	}
	if server == nil || child == nil {
		t.Fatalf("the spans are %v", r.spans)
	}
	if fmt.Sprintf("%x", server.ParentSpanId) != parent || !bytes.Equal(child.ParentSpanId, server.SpanId) {
		t.Errorf("the parents are %x and %x", server.ParentSpanId, child.ParentSpanId)
	}
	a := attributes(server)
	if server.Name != "POST string" || a["http.request.method"] != "POST" || a["http.response.status_code"] != "200" || a["user.name"] != "a" {
		t.Errorf("the server's span %s: %v", server.Name, a)
	}
	a = attributes(child)
	if child.Name != "SET" || a["db.system.name"] != "redis" || a["server.address"] != client.Master() {
		t.Errorf("the child's span %s: %v", child.Name, a)
	}
	if bytes.Contains(r.raw, []byte("secret")) || bytes.Contains(r.raw, []byte("token of")) {
		t.Error("a span tells a key, a value or a token")
	}
}

func TestTracesThatCannotBeSentHarmNobody(t *testing.T) {
	client, _ := single(t)
	var log lines
	base, _, stop := serveWith(t, Config{Trace: "http://127.0.0.1:1", Logger: slog.New(slog.NewTextHandler(&log, nil))}, client)
	if status, _, body := call(t, "GET", base+"/dbsize", ""); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	stop()
	if !strings.Contains(log.String(), "traces") {
		t.Errorf("the log says nothing of it: %s", log.String())
	}
}
