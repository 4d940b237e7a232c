package host

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"holdfast/internal/identity"
)

// The port forgets a connection that has ended, also that of a client without a certificate.
func TestThePortForgetsConnectionsThatHaveEnded(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	for range 3 {
		member := http.Client{Transport: one.transport("one")}
		l.must(get(&member, "https://one"+ListPath))
		stranger := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
			ServerName: "join.holdfast", InsecureSkipVerify: true,
		}}}
		l.must(get(&stranger, "https://"+one.self.Address.String()+identity.JoinPath))
	}
	l.eventually("the port has no connection", func() bool {
		one.port.mu.Lock()
		defer one.port.mu.Unlock()
		return len(one.port.open) == 0
	})
}

// get sends a GET and closes the connection.
func get(client *http.Client, url string) error {
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Strangers who send nothing, or only open connections to join, neither keep a host of the
// stack out nor fill the memory.
func TestStrangersKeepNoHostOut(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	one.port.mu.Lock()
	one.port.patience = time.Hour
	one.port.mu.Unlock()
	for range maxStrangers + 8 {
		idle, err := net.Dial("tcp", one.self.Address.String())
		l.must(err)
		defer idle.Close()
	}
	for range maxStrangers + 8 {
		joins, err := tls.Dial("tcp", one.self.Address.String(), &tls.Config{ServerName: "join.holdfast", InsecureSkipVerify: true})
		l.must(err)
		defer joins.Close()
	}
	member := http.Client{Transport: one.transport("one"), Timeout: time.Minute}
	l.must(get(&member, "https://one"+ListPath))
	l.eventually("the port keeps few of them", func() bool {
		one.port.mu.Lock()
		defer one.port.mu.Unlock()
		return len(one.port.open) <= maxStrangers
	})
}

func TestTheOldestOfTheAddressWithTheMostGoes(t *testing.T) {
	of := func(addresses ...string) (conns []stranger) {
		for _, a := range addresses {
			conns = append(conns, stranger{from: netip.MustParseAddr(a)})
		}
		return conns
	}
	for _, c := range []struct {
		conns []stranger
		goes  int
	}{
		{of("10.0.0.1", "10.0.0.2"), 0},
		{of("10.0.0.1", "10.0.0.2", "10.0.0.2"), 1},
		{of("10.0.0.2", "10.0.0.1", "10.0.0.2"), 0},
	} {
		if got := tooMany(c.conns); got != c.goes {
			t.Errorf("%v: %d goes", c.conns, got)
		}
	}
}
