package supervise

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/plan"
)

// Each host renews its own certificate (package identity). Web nodes read the new file by
// themselves; this code has redis nodes, Sentinels and balancers load it. It asks each node
// which certificate it has, so a new supervisor knows it, too.

const (
	// lookAtCertificatesEvery is how often the hosts' certificate files are read.
	lookAtCertificatesEvery = 5 * time.Second
	// certificateLimit is how long one node may take to show its certificate, or to load
	// another.
	certificateLimit = 2 * time.Second
)

// watchCertificates has the nodes use the certificates of their hosts, until the supervisor
// ends.
func (s *Supervisor) watchCertificates() {
	shown := map[string]string{} // by host: the serial number that all nodes of the host have
	for clock.Sleep(s.ctx, lookAtCertificatesEvery) {
		for _, h := range s.Plan().Hosts {
			if s.stopping.Load() {
				return
			}
			if err := s.spreadCertificate(s.ctx, h, shown); err != nil && s.ctx.Err() == nil {
				s.log.Warn("not all nodes have the certificate of their host yet", "host", h.Name, "why", err)
			}
		}
	}
}

// spreadCertificate has the nodes of a host load its certificate, one after the other.
func (s *Supervisor) spreadCertificate(ctx context.Context, h plan.Host, shown map[string]string) error {
	host := s.hosts.at(h.Name)
	if s.hosts.isAbsent(h.Name) || !host.Present(ctx) {
		return nil
	}

	text, err := host.Read(ctx, plan.CertificateFile)
	if err != nil {
		return err
	}
	serial, err := serialOf(text)
	if err != nil || shown[h.Name] == serial {
		return err
	}

	for _, p := range h.Processes {
		st, _ := s.statusBoard.snapshot().Node(p.Node)
		if !p.Kind.Traits().KeepsCertificate || st.State == Down || st.State == Failed {
			continue // it reads the file when it starts
		}
		if err := s.giveCertificate(ctx, p, string(text), serial); err != nil {
			return fmt.Errorf("%s: %w", p.Node, err)
		}
	}

	shown[h.Name] = serial
	return nil
}

// giveCertificate has a node load a certificate, if the node has another one.
func (s *Supervisor) giveCertificate(ctx context.Context, p plan.Process, text, serial string) error {
	limited, cancel := context.WithTimeout(ctx, certificateLimit)
	defer cancel()
	has, err := s.certificateOf(limited, p)
	if err != nil || has == serial {
		return err
	}

	s.log.Info("takes up the new certificate of its host", "node", p.Node)
	path := s.home(p.Node).Path(plan.CertificateFile)
	switch p.Kind {
	case plan.Balancer:
		return s.balancer(p).SetCertificate(limited, path, text)
	case plan.Redis:
		return s.admin(p.Node).ReadCertificate(limited, path, s.home(p.Node).Path(plan.AuthorityFile))
	case plan.Sentinel:
		return s.renewSentinel(ctx, p.Node)
	}
	return nil
}

// certificateOf returns the serial number of the certificate that a node has.
func (s *Supervisor) certificateOf(ctx context.Context, p plan.Process) (serial string, err error) {
	if p.Kind == plan.Balancer {
		return s.balancer(p).Certificate(ctx, s.home(p.Node).Path(plan.CertificateFile))
	}
	conn, err := s.home(p.Node).Dial(ctx, "tcp", p.LocalAddress())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	settings := s.wire.Clone()
	settings.ServerName, _, _ = net.SplitHostPort(p.LocalAddress())
	secure := tls.Client(conn, settings)
	if err := secure.HandshakeContext(ctx); err != nil {
		return "", err
	}
	return serialText(secure.ConnectionState().PeerCertificates[0]), nil
}

// renewSentinel restarts a Sentinel, because a running Sentinel cannot load another certificate
// (Redis 7.0). It does so only while all others are up and no failover or change is under way,
// so that there is a majority at all times.
func (s *Supervisor) renewSentinel(ctx context.Context, name string) error {
	if now, _ := s.changing.status(); now != nil {
		return errors.New("a change is under way")
	}
	if !s.switching.TryLock() {
		return errors.New("a switchover is under way")
	}
	defer s.switching.Unlock()
	if err := s.mayLackSentinel(ctx, name); err != nil {
		return err
	}
	return s.bringUp(ctx, s.node(name), command{action: ActRestart}, askedLimit)
}

// mayLackSentinel returns an error if a Sentinel may not be restarted for now.
func (s *Supervisor) mayLackSentinel(ctx context.Context, name string) error {
	if s.cfg.Pod { // the status board has nothing of the other pods' nodes
		f := s.gather(ctx, certificateLimit)
		if len(f.Views) < f.Sentinels {
			return fmt.Errorf("only %d of %d Sentinels answer", len(f.Views), f.Sentinels)
		}
		_, _, err := f.master()
		return err
	}

	if s.lastSeenMaster() == "" {
		return errors.New("the Redis master is not known")
	}
	for _, other := range s.sentinels() {
		if st, _ := s.statusBoard.snapshot().Node(other); other != name && st.State != Up {
			return fmt.Errorf("it waits for %s, which is not up", other)
		}
	}
	return nil
}

// serialOf returns the serial number of the first certificate in a PEM text.
func serialOf(text []byte) (string, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", err
		}
		return serialText(cert), nil
	}
	return "", errors.New("there is no certificate in the file of the host")
}

// serialText returns a certificate's serial number in HAProxy's notation.
func serialText(c *x509.Certificate) string { return fmt.Sprintf("%X", c.SerialNumber.Bytes()) }
