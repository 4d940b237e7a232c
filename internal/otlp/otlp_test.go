package otlp

import (
	"compress/gzip"
	"context"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// batch has one span, named "GET".
var batch = []*spans.ResourceSpans{{ScopeSpans: []*spans.ScopeSpans{{Spans: []*spans.Span{{Name: "GET"}}}}}}

// reply is a collector's reply to one request.
type reply struct {
	status int
	header map[string]string
	body   string
}

// collector is an HTTP server that sends these replies in turn, and then 200.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	replies []reply
	got     []*http.Request
	spans   []string
	at      []time.Time
}

func newCollector(t *testing.T, replies ...reply) *collector {
	t.Helper()
	c := &collector{replies: replies}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got, c.at = append(c.got, r), append(c.at, time.Now())

	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unzipped
	}
	sent, err := io.ReadAll(body)
	var data spans.TracesData
	if err == nil {
		err = proto.Unmarshal(sent, &data)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, resource := range data.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				c.spans = append(c.spans, span.Name)
			}
		}
	}

	if len(c.replies) > 0 {
		next := c.replies[0]
		c.replies = c.replies[1:]
		for name, value := range next.header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(next.status)
		io.WriteString(w, next.body)
	}
}

// quick returns a client that repeats a request after about a millisecond.
func quick(t *testing.T, url string, s Settings) *client {
	t.Helper()
	c := newClient(url, s)
	c.wait = time.Millisecond
	t.Cleanup(func() { c.Stop(context.Background()) })
	return c
}

func TestSpansComeToTheCollector(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		to := newCollector(t)
		c := quick(t, to.URL+"/v1/traces", Settings{Compress: compressed, Headers: map[string]string{"X-Token": "a b"}})
		if err := c.UploadTraces(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		if len(to.got) != 1 || len(to.spans) != 1 || to.spans[0] != "GET" {
			t.Fatalf("%d requests with the spans %v", len(to.got), to.spans)
		}
		r := to.got[0]
		if r.Method != "POST" || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("X-Token") != "a b" {
			t.Errorf("%s %s %v", r.Method, r.URL.Path, r.Header)
		}
		if encoding := r.Header.Get("Content-Encoding"); (encoding == "gzip") != compressed {
			t.Errorf("compressed %v: Content-Encoding %q", compressed, encoding)
		}
	}
}

func TestWhatMayBeRepeatedIsRepeated(t *testing.T) {
	for status, again := range map[int]bool{429: true, 502: true, 503: true, 504: true, 400: false, 401: false, 404: false, 500: false} {
		to := newCollector(t, reply{status: status, body: "not now"}, reply{status: status})
		err := quick(t, to.URL, Settings{}).UploadTraces(t.Context(), batch)
		switch {
		case again && (err != nil || len(to.got) != 3):
			t.Errorf("%d: after %d requests: %v", status, len(to.got), err)
		case !again && (err == nil || len(to.got) != 1):
			t.Errorf("%d: after %d requests: %v", status, len(to.got), err)
		case !again && !strings.Contains(err.Error(), "not now"):
			t.Errorf("%d: the error does not have the collector's reason: %v", status, err)
		}
	}
}

func TestTheCollectorSaysWhenToRepeat(t *testing.T) {
	to := newCollector(t, reply{status: 503, header: map[string]string{"Retry-After": "1"}})
	if err := quick(t, to.URL, Settings{}).UploadTraces(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if len(to.at) != 2 || to.at[1].Sub(to.at[0]) < time.Second {
		t.Errorf("the requests came at %v", to.at)
	}

	// The collector asks for a longer pause than a batch is kept. So it is given up at once.
	to = newCollector(t, reply{status: 503, header: map[string]string{"Retry-After": "3600"}})
	if err := quick(t, to.URL, Settings{}).UploadTraces(t.Context(), batch); err == nil || len(to.at) != 1 {
		t.Errorf("after %d requests: %v", len(to.at), err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "99999999999999999999": 0,
		"Mon, 30 Nov 2026 12:00:09 GMT": 9 * time.Second,
		"Mon, 30 Nov 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestAnAttemptThatTakesTooLongIsRepeated(t *testing.T) {
	var mu sync.Mutex
	requests, done := 0, make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		mu.Lock()
		requests++
		first := requests == 1
		mu.Unlock()
		if first {
			<-done
		}
	}))
	defer server.Close()
	defer close(done)
	c := quick(t, server.URL, Settings{})
	c.http.Timeout = 50 * time.Millisecond
	for c.UploadTraces(t.Context(), batch) != nil { // on a busy machine the second attempt may time out, too
		if t.Context().Err() != nil {
			t.Fatal("no attempt came through")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if requests < 2 {
		t.Errorf("%d requests", requests)
	}
}

func TestStopEndsTheWait(t *testing.T) {
	to := newCollector(t, reply{status: 503, header: map[string]string{"Retry-After": "50"}})
	c := quick(t, to.URL, Settings{})
	sent := make(chan error, 1)
	go func() { sent <- c.UploadTraces(context.Background(), batch) }()
	for {
		to.mu.Lock()
		came := len(to.got)
		to.mu.Unlock()
		if came == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	c.Stop(context.Background())
	select {
	case err := <-sent:
		if err == nil {
			t.Error("the batch counts as sent")
		}
	case <-time.After(30 * time.Second):
		t.Error("the upload goes on")
	}
}

func TestSpansThatWereNotTakenAreAnError(t *testing.T) {
	partial := protowire.AppendTag(nil, 1, protowire.VarintType)
	partial = protowire.AppendVarint(partial, 3)
	partial = protowire.AppendTag(partial, 2, protowire.BytesType)
	partial = protowire.AppendString(partial, "too old")
	message := protowire.AppendTag(nil, 1, protowire.BytesType)
	message = protowire.AppendBytes(message, partial)

	kind := map[string]string{"Content-Type": protobuf}
	to := newCollector(t, reply{200, kind, string(message)}, reply{200, kind, ""}, reply{200, kind, "\xff\xff\xff"}, reply{200, nil, "{}"})
	c := quick(t, to.URL, Settings{})
	if err := c.UploadTraces(t.Context(), batch); err == nil || !strings.Contains(err.Error(), "3 of the spans") || !strings.Contains(err.Error(), "too old") {
		t.Errorf("of 3 spans that were not taken: %v", err)
	}
	for range 3 {
		if err := c.UploadTraces(t.Context(), batch); err != nil {
			t.Errorf("of a reply that tells of none: %v", err)
		}
	}
}

func TestACollectorWithACertificateOfItsOwn(t *testing.T) {
	to := &collector{}
	to.Server = httptest.NewTLSServer(to)
	defer to.Close()

	file := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: to.Certificate().Raw})
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{"OTEL_EXPORTER_OTLP_CERTIFICATE": file}
	s, err := FromEnvironment(func(name string) string { return environment[name] })
	if err != nil {
		t.Fatal(err)
	}
	if err := quick(t, to.URL, s).UploadTraces(t.Context(), batch); err != nil {
		t.Error(err)
	}
	if err := quick(t, to.URL, Settings{}).UploadTraces(t.Context(), batch); err == nil {
		t.Error("a certificate that nobody vouches for is trusted")
	}
}

func TestFromEnvironment(t *testing.T) {
	for _, c := range []struct {
		environment string // NAME=value, separated by spaces
		want        Settings
		err         string // part of the error
	}{
		{environment: ""},
		{environment: "HEADERS=X-Token=a%20b,,Other=c=d", want: Settings{Headers: map[string]string{"X-Token": "a b", "Other": "c=d"}}},
		{environment: "HEADERS=A=1 TRACES_HEADERS=B=2", want: Settings{Headers: map[string]string{"B": "2"}}},
		{environment: "COMPRESSION=gzip TIMEOUT=1500", want: Settings{Compress: true, Timeout: 1500 * time.Millisecond}},
		{environment: "COMPRESSION=gzip TRACES_COMPRESSION=none"},
		{environment: "COMPRESSION=zstd", err: `OTEL_EXPORTER_OTLP_COMPRESSION: "zstd"`},
		{environment: "TRACES_TIMEOUT=10s", err: `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: "10s"`},
		{environment: "TIMEOUT=0", err: "OTEL_EXPORTER_OTLP_TIMEOUT"},
		{environment: "HEADERS=X-Token:secret", err: "header 1 is not"},
		{environment: "HEADERS=A=1,B=%zz", err: "header 2 is not"},
		{environment: "HEADERS=A=%0asecret", err: "header 1 is not"},
		{environment: "CERTIFICATE=/nowhere/ca.pem", err: "OTEL_EXPORTER_OTLP_CERTIFICATE"},
		{environment: "CERTIFICATE=/dev/null", err: "no certificate"},
		{environment: "CLIENT_KEY=/nowhere/key.pem", err: "belong together"},
		{environment: "CLIENT_KEY=/nowhere/key.pem CLIENT_CERTIFICATE=/nowhere/c.pem", err: "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"},
	} {
		environment := map[string]string{}
		for _, pair := range strings.Fields(c.environment) {
			name, value, _ := strings.Cut(pair, "=")
			environment["OTEL_EXPORTER_OTLP_"+name] = value
		}
		got, err := FromEnvironment(func(name string) string { return environment[name] })
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %s", c.environment, err, c.err)
			} else if strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: the error quotes the header: %v", c.environment, err)
			}
			continue
		}
		if err != nil || got.Compress != c.want.Compress || got.Timeout != c.want.Timeout || len(got.Headers) != len(c.want.Headers) {
			t.Errorf("%s: %+v, %v, want %+v", c.environment, got, err, c.want)
		}
		for name, value := range c.want.Headers {
			if got.Headers[name] != value {
				t.Errorf("%s: header %s is %q, want %q", c.environment, name, got.Headers[name], value)
			}
		}
	}
}
