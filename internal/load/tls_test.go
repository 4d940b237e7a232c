package load

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/history"
)

// secureShop serves TLS and counts the connections that it accepts.
func secureShop(t *testing.T) (h *httptest.Server, connections *atomic.Int32) {
	t.Helper()
	connections = new(atomic.Int32)
	h = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/close" {
			w.Header().Set("Connection", "close")
		}
	}))
	h.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { connections.Add(1); return nil, nil }}
	h.StartTLS()
	t.Cleanup(h.Close)
	return h, connections
}

// trusts returns the settings of a client that trusts every server, or none.
func trusts(does bool) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error {
		if does {
			return nil
		}
		return errors.New("another certificate")
	}}
}

// With TLS a client keeps its connection, too, even after the tickets that a server sends unasked.
func TestALoadSpeaksTLSAndKeepsItsConnections(t *testing.T) {
	h, connections := secureShop(t)
	cfg := Config{Entries: []string{h.URL}, TLS: trusts(true), Prefix: "drill:1:", Rate: 200, Clients: 3, Timeout: 5 * time.Second, Seed: 1,
		URLs: []URL{{"GET", "", "/cart", 0, false}}}
	ops := run(t, newLoad(t, cfg), 500*time.Millisecond)
	for _, op := range ops {
		if op.Outcome != history.OK || op.Tries != 1 {
			t.Fatalf("%+v", op)
		}
	}
	if len(ops) < 20 || connections.Load() > 3 {
		t.Errorf("%d operations over %d connections", len(ops), connections.Load())
	}
}

func TestNothingIsSentToWhomTheCertificateIsNotOf(t *testing.T) {
	h, _ := secureShop(t)
	cfg := Config{Entries: []string{h.URL}, TLS: trusts(false), Prefix: "drill:1:", Rate: 100, Clients: 1, Timeout: 300 * time.Millisecond,
		URLs: []URL{{"POST", "", "/order", 0, false}}}
	l := newLoad(t, cfg)
	op := one(t, l, l.task(0))
	if op.Outcome != history.Failed || op.Tries != 0 || op.Error != "another certificate" {
		t.Errorf("%+v", op)
	}
}
