package host

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"holdfast/internal/identity"
)

// Who may ask a host for what. A certificate of the stack's authority is not enough: each
// host has the authority, and so could issue one for a host that there is not. It has to be
// that of a host which the others have agreed on.

// knows reports whether the owner of a certificate is one of the hosts of the stack, as far
// as this one has heard.
func (h *Host) knows(p identity.Peer) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, is := h.roster.Hosts[p.Name]
	return p.Role == identity.Host && is && m.ID == p.ID
}

// admits reports whether who is at the other end of a connection may use its protocol.
//
// A host that hears of no leader admits any certificate of the authority to the agreement: it
// may have been away while a host joined, and hears of it only by the agreement.
func (h *Host) admits(conn *tls.Conn) bool {
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != machineProtocol && state.NegotiatedProtocol != agreementProtocol {
		return true // see admitsRequest
	}
	peer, err := identity.PeerOf(state.PeerCertificates[0])
	switch {
	case err == nil && h.knows(peer):
		return true
	case err == nil && peer.Role == identity.Host && state.NegotiatedProtocol == agreementProtocol && h.unled():
		return true
	}
	h.cfg.Log.Warn("somebody whom this host does not know as a host of the stack was not let in",
		"who", peer.String(), "id", peer.ID, "from", conn.RemoteAddr(), "protocol", state.NegotiatedProtocol)
	return false
}

// unled reports whether this host has heard of no leader for some time.
func (h *Host) unled() bool {
	return h.leads() == 0 && time.Since(h.member.Status().Heard) >= unheard
}

// admitsRequest passes on what hosts and operators of the stack ask.
func (h *Host) admitsRequest(next http.Handler) http.Handler {
	return h.trust.RequirePeer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := h.trust.Peer(r)
		if err == nil && peer.Role == identity.Host && !h.knows(peer) {
			err = fmt.Errorf("host %s has not heard yet that %s is a host of the stack: ask another one", h.self.Name, peer)
		}
		if err != nil {
			tell(w, http.StatusForbidden, err)
			return
		}
		next.ServeHTTP(w, r)
	}), identity.Host, identity.Operator)
}
