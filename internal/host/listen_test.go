package host

import (
	"crypto/tls"
	"net/http"
	"testing"

	"holdfast/internal/identity"
)

// A connection that has ended is forgotten, also one of somebody without a certificate.
func TestThePortForgetsConnectionsThatHaveEnded(t *testing.T) {
	l := newLab(t)
	one := l.found("one")
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

// get asks for something, and ends the connection.
func get(client *http.Client, url string) error {
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
