package host

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"holdfast/internal/identity"
)

// This file decides who may use which protocol of a host's port. A certificate of the stack's
// authority is not enough: every host has the authority's key, and could issue a certificate
// for a host that does not exist. So the certificate has to be that of a host in the roster,
// which all hosts agree on.

// knows reports whether the owner of a certificate is in the roster as this host has it.
func (h *Host) knows(p identity.Peer) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, is := h.roster.Hosts[p.Name]
	return p.Role == identity.Host && is && m.ID == p.ID
}

// admits reports whether the peer of a connection may use the connection's protocol.
//
// A host that has heard of no leader for some time admits every host certificate of the
// authority to the agreement protocol. It may have been away while another host joined, and
// only the agreement can tell it so.
func (h *Host) admits(conn *tls.Conn) bool {
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != machineProtocol && state.NegotiatedProtocol != agreementProtocol {
		return true // see admitsRequest
	}
	peer, err := identity.PeerOf(state.PeerCertificates[0])
	switch {
	case err == nil && h.knows(peer):
		return true
	case err == nil && peer.Role == identity.Host && state.NegotiatedProtocol == agreementProtocol && h.leaderless():
		return true
	}
	h.cfg.Log.Warn("somebody whom this host does not know as a host of the stack was not let in",
		"who", peer.String(), "id", peer.ID, "from", conn.RemoteAddr(), "protocol", state.NegotiatedProtocol)
	return false
}

// leaderless reports whether this host does not lead and has heard of no leader for at least
// unheard.
func (h *Host) leaderless() bool {
	return h.leads() == 0 && time.Since(h.member.Status().Heard) >= unheard
}

// admitsRequest returns a handler that lets only hosts and operators of the stack reach next.
func (h *Host) admitsRequest(next http.Handler) http.Handler {
	return h.trust.RequirePeer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := h.trust.Peer(r)
		if err == nil && peer.Role == identity.Host && !h.knows(peer) {
			err = fmt.Errorf("host %s has not heard yet that %s is a host of the stack: ask another one", h.self.Name, peer)
		}
		if err != nil {
			writeError(w, http.StatusForbidden, err)
			return
		}
		next.ServeHTTP(w, r)
	}), identity.Host, identity.Operator)
}
