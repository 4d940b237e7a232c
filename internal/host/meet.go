package host

import (
	"context"
	"crypto/tls"
	"net/netip"
	"time"

	"holdfast/internal/identity"
)

// Meet asks who is at the port of an address: the name of a host, and of its stack. They
// are what the other end says of itself, and not proved. false: nobody, or no host.
func Meet(ctx context.Context, address netip.Addr) (peer identity.Peer, is bool) {
	const limit = 2 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Nobody is trusted: it is about who must not be there.
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
