package test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"holdfast/internal/certificate"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// show waits until every host presents a certificate on many connections in a row.
func (l *loopStack) show(what string, leaf *x509.Certificate) {
	l.t.Helper()
	l.showOf(what, 1, leaf)
}

// showChain waits until every host presents a certificate with its chain, of so many certificates
// together.
func (l *loopStack) showChain(length int, leaf *x509.Certificate) {
	l.t.Helper()
	l.showOf(fmt.Sprintf("a chain of %d", length), length, leaf)
}

func (l *loopStack) showOf(what string, length int, leaf *x509.Certificate) {
	l.t.Helper()
	for _, entry := range l.entries() {
		l.eventually(entry+" shows "+what, func() error {
			for range 5 {
				conn, err := tls.Dial("tcp", entry, &tls.Config{InsecureSkipVerify: true})
				if err != nil {
					return err
				}
				shown := conn.ConnectionState().PeerCertificates
				conn.Close()
				if len(shown) != length || !shown[0].Equal(leaf) {
					return fmt.Errorf("it shows %d, the first of %v", len(shown), shown[0].NotBefore)
				}
			}
			return nil
		})
	}
}

// The balancers of all hosts take up renewed certificates, whichever host leads. A new leader keeps
// the self-signed certificate of the one before.
func TestAllHostsShowWhatIsRenewed(t *testing.T) {
	beside(t, severalHosts)
	l := newLoopStack(t, "balancers: 3\n")
	file := filepath.Join(l.dir, "www.pem")
	renew := func() *x509.Certificate {
		pair, err := certificate.SelfSigned([]string{"www.example.com"}, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, pair.PEM, 0o600); err != nil {
			t.Fatal(err)
		}
		return pair.Leaf
	}
	l.file.Entry.TLS.Certificates = []stack.KeyPair{{Certificate: "www.pem"}}
	first := renew()
	l.join("two")
	l.join("three")
	l.awaitReady()
	l.show("the first", first)
	l.show("the second", renew())

	leader, _ := l.status()
	old := l.hosts[leader]
	old.Close()
	delete(l.hosts, leader)
	l.eventually("another host leads", func() error {
		if next, _ := l.status(); next == "" {
			return fmt.Errorf("nobody leads")
		}
		return nil
	})
	l.open(leader, old.state)
	third := renew()
	l.show("the third", third)
	l.eventually("the status tells it once", func() error {
		_, st := l.status()
		if len(st.Certificates) != 1 || st.Certificates[0].Fingerprint != certificate.Fingerprint(third) || st.Certificates[0].Host != "" {
			return fmt.Errorf("%+v", st.Certificates)
		}
		return nil
	})

	// A chain that lacks the issuer is shown by all hosts, and told once. All take up the whole one.
	leaf, key, issuer := chained(t, "www.example.com")
	for _, chain := range [][]byte{leaf, slices.Concat(leaf, issuer)} {
		pair, err := certificate.Read(chain, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, pair.PEM, 0o600); err != nil {
			t.Fatal(err)
		}
		l.showChain(1+len(pair.Chain), pair.Leaf)
		l.eventually("the status tells what is missing", func() error {
			_, st := l.status()
			if len(st.Certificates) != 1 || (st.Certificates[0].Gap == "") != (len(pair.Chain) == 1) || st.Certificates[0].Host != "" {
				return fmt.Errorf("%+v", st.Certificates)
			}
			return nil
		})
	}
}

func TestAllHostsShowOneSelfSignedCertificate(t *testing.T) {
	beside(t, severalHosts)
	l := newLoopStack(t, "balancers: 3\n")
	l.file.Entry.TLS.SelfSigned = true
	l.join("two")
	l.join("three")
	l.awaitReady()
	for _, h := range l.hosts {
		l.eventually(h.name+" has the certificate", func() error {
			text, err := os.ReadFile(filepath.Join(h.state, supervise.SelfSignedFile))
			if err != nil {
				return err
			}
			pair, err := certificate.Read(text, nil)
			if err == nil {
				l.show("the stack's own", pair.Leaf)
			}
			return err
		})
	}
}
