package load

import (
	"context"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// service stands for the stack: it has the same routes, in memory, and can inject faults.
type service struct {
	url string

	mu       sync.Mutex
	strings  map[string]string
	numbers  map[string]int
	sets     map[string][]string
	answers  map[string][]byte // by Idempotency-Key
	requests []*asked
	conns    int // connections accepted

	// fault returns what happens to a request; nil or empty: it is answered.
	fault func(*asked) fault
}

// asked is a request as it arrived.
type asked struct {
	method, path, body string
	header             http.Header
	conn               string // address of the client's side
	at                 time.Time
}

type fault string

const (
	resetBefore fault = "reset before it is carried out"
	resetAfter  fault = "reset after it was carried out"
	half        fault = "half an answer"
	hang        fault = "no answer"
)

func newService(t *testing.T) *service {
	s := &service{strings: map[string]string{}, numbers: map[string]int{}, sets: map[string][]string{}, answers: map[string][]byte{}}
	h := httptest.NewUnstartedServer(s)
	h.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.mu.Lock()
			s.conns++
			s.mu.Unlock()
		}
	}
	h.Start()
	s.url = h.URL
	t.Cleanup(func() {
		h.CloseClientConnections()
		h.Close()
	})
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	a := &asked{r.Method, r.URL.Path, string(body), r.Header, r.RemoteAddr, time.Now()}
	s.mu.Lock()
	s.requests = append(s.requests, a)
	f := fault("")
	if s.fault != nil {
		f = s.fault(a)
	}
	var status int
	var answer []byte
	if f == "" || f == resetAfter || f == half {
		status, answer = s.do(w.Header(), a)
	}
	s.mu.Unlock()
	w.Header().Set("Holdfast-Node", "web-1")
	switch f {
	case "":
	case resetBefore, resetAfter, half:
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		if f == half {
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
		} else {
			_ = conn.(*net.TCPConn).SetLinger(0)
		}
		conn.Close()
		return
	case hang:
		<-r.Context().Done()
		return
	default: // a status
		if _, err := fmt.Sscan(string(f), &status); err != nil {
			panic(err)
		}
		answer = []byte(`{"error":"as the test wants it"}`)
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

// refuse makes the service refuse everything from now on. The returned context ends in the middle
// of a request, when that many paths have been requested twice. A client that asks again has read
// the answer before, however slow the machine is.
func (s *service) refuse(t *testing.T, status fault, paths int) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s.mu.Lock()
	defer s.mu.Unlock()
	times := map[string]int{}
	s.fault = func(a *asked) fault {
		if times[a.path]++; times[a.path] == 2 {
			paths--
		}
		if paths > 0 {
			return status
		}
		cancel()
		return hang
	}
	return ctx
}

// do carries a request out. The caller holds the lock.
func (s *service) do(h http.Header, a *asked) (int, []byte) {
	id := a.header.Get("Idempotency-Key")
	if answer, ok := s.answers[id]; ok && id != "" {
		return 200, answer
	}
	status, answer := s.carryOut(h, a)
	if id != "" {
		s.answers[id] = []byte(answer)
	}
	return status, []byte(answer)
}

func (s *service) carryOut(h http.Header, a *asked) (int, string) {
	if key, ok := strings.CutPrefix(a.path, "/smembers/"); ok {
		members := s.sets[key]
		if members == nil {
			members = []string{}
		}
		text, _ := json.Marshal(map[string]any{"result": members})
		return 200, string(text)
	}
	if key, ok := strings.CutPrefix(a.path, "/v1/keys/"); ok {
		value, found := s.strings[key]
		if n, ok := s.numbers[key]; ok {
			value, found = fmt.Sprint(n), true
		}
		etag := func(v string) string { return fmt.Sprintf(`"%x"`, sha1.Sum([]byte(v))) }
		if a.method == "GET" {
			if !found {
				return 404, `{"error":"no such key"}`
			}
			h.Set("ETag", etag(value))
			return 200, value
		}
		if m := a.header.Get("If-Match"); m != "" && (!found || m != etag(value)) {
			return 412, `{"error":"not as it is"}`
		}
		if a.header.Get("If-None-Match") == "*" && found {
			return 412, `{"error":"it is there"}`
		}
		s.strings[key] = a.body
		h.Set("ETag", etag(a.body))
		return 204, ""
	}
	if a.path == "/v1/keys" {
		return 200, `{"keys":[]}`
	}
	if a.path == "/pipeline" {
		var commands [][]string
		if err := json.Unmarshal([]byte(a.body), &commands); err != nil {
			return 400, `{"error":"no JSON"}`
		}
		for _, c := range commands {
			delete(s.strings, c[1])
			delete(s.numbers, c[1])
			delete(s.sets, c[1])
		}
		return 200, `[{"result":1}]`
	}
	var command []string
	if err := json.Unmarshal([]byte(a.body), &command); err != nil {
		return 400, `{"error":"no JSON"}`
	}
	switch command[0] {
	case "DEL":
		return 200, `{"result":0}`
	case "SET":
		s.strings[command[1]] = command[2]
		return 200, `{"result":"OK"}`
	case "INCR":
		s.numbers[command[1]]++
		return 200, fmt.Sprintf(`{"result":%d}`, s.numbers[command[1]])
	case "SADD":
		s.sets[command[1]] = append(s.sets[command[1]], command[2])
		return 200, `{"result":1}`
	}
	return 400, `{"error":"unknown command"}`
}

// increments returns how often each increment was sent: those with a key, by key, or those without.
func (s *service) increments(once bool) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[string]int{}
	for _, a := range s.requests {
		if id := a.header.Get("Idempotency-Key"); strings.Contains(a.body, "INCR") && (id != "") == once {
			n[id]++
		}
	}
	return n
}
