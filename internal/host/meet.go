package host

import (
	"context"
	"crypto/tls"
	"net/netip"
	"time"

	"holdfast/internal/identity"
)

// Meet returns which host, of which stack, listens at the hosts' port of an address. That is
// what the other end claims, and is not verified. If nothing answers within 2 s, or what answers
// is not a host, is is false.
func Meet(ctx context.Context, address netip.Addr) (peer identity.Peer, is bool) {
	const limit = 2 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13,
		// No certificate is trusted. The caller only wants to know whether a host is there that
		// should not be.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) (err error) {
			if peer, err = identity.PeerOf(state.PeerCertificates[0]); err == nil {
				is = peer.Role == identity.Host
			}
			return err
		},
	}}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(address, Port).String())
	if err == nil {
		_ = conn.Close()
	}
	return peer, is
}
