package identity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

// Member is a host of the stack, as it is described to a new host.
type Member struct {
	Name      string           `json:"name"`
	ID        string           `json:"id"` // Peer.ID
	Addresses []netip.AddrPort `json:"addresses"`
}

// Welcome is what a new host receives besides its certificate.
type Welcome struct {
	Members []Member
	// Payload is what else the new host needs to start, at most MaxPayload bytes. This
	// package does not look into it.
	Payload []byte
}

// MaxPayload is the largest size of Welcome.Payload, in bytes.
const MaxPayload = 4 << 20

// Issue obtains a certificate for a request (both in DER) from a holder of the authority.
type Issue func(ctx context.Context, request []byte, g Grant) ([]byte, error)

// Issuer returns an Issue that uses this authority itself.
func (a *Authority) Issuer(now func() time.Time, random io.Reader) Issue {
	return func(_ context.Context, request []byte, g Grant) ([]byte, error) {
		return a.Issue(request, g, now(), random)
	}
}

// Joins lets hosts join. Its functions must be safe for concurrent use. The new host is told
// the text of an *Error; the text of other errors stays in the log.
type Joins struct {
	Authority *x509.Certificate
	// Redeem calls Invitations.Redeem on the invitations that the stack keeps. It returns
	// only when the outcome can no longer be lost.
	Redeem func(context.Context, Claim) (Invitation, error)
	Issue  Issue
	// Welcome makes the host a member. It is called after the token was accepted, and again
	// for the same peer if the answer to the new host was lost.
	Welcome func(context.Context, Peer) (Welcome, error)
	Now     func() time.Time
	Log     *slog.Logger
}

// Handler returns the handler for the requests of Join. Requests of hosts without a
// certificate must reach it only through AdmitJoins and SplitJoins.
func (j Joins) Handler() http.Handler {
	limit := newLimiter()
	mux := http.NewServeMux()

	mux.HandleFunc("GET "+JoinPath, func(w http.ResponseWriter, r *http.Request) {
		answerJSON(w, http.StatusOK, hello{j.Authority.URIs[0].Host, j.Now().UTC()})
	})

	mux.HandleFunc("POST "+JoinPath, func(w http.ResponseWriter, r *http.Request) {
		var in joinRequest
		if !limit.allow(r.RemoteAddr, time.Now()) {
			j.fail(w, r, refuse(TooMany, "there were too many tries to join from this address: wait some seconds and try again; the token is not used up"))
			return
		}
		if err := readRequest(w, r, &in); err != nil {
			j.fail(w, r, err)
			return
		}
		if !limit.begin() { // only after the body was read, so that a slow client takes no place
			j.fail(w, r, refuse(TooMany, "too many hosts try to join at this moment: try again; the token is not used up"))
			return
		}
		defer limit.end()
		answer, peer, err := j.admit(r.Context(), in)
		if err != nil {
			j.fail(w, r, err)
			return
		}
		j.Log.Info(peer.String()+" has joined", "from", r.RemoteAddr, "id", peer.ID)
		answerJSON(w, http.StatusOK, answer)
	})

	return bounded(mux)
}

func (j Joins) fail(w http.ResponseWriter, r *http.Request, err error) {
	j.Log.Warn("a host could not join", "from", r.RemoteAddr, "error", err)
	answerError(w, statusOf(ReasonOf(err)), err)
}

func (j Joins) admit(ctx context.Context, in joinRequest) (joinAnswer, Peer, error) {
	// Checked first, because a request that cannot be signed must not use the token up.
	key, err := requestedKey(in.Request)
	if err != nil {
		return joinAnswer{}, Peer{}, err
	}
	keyHash, err := hashKey(key)
	if err != nil {
		return joinAnswer{}, Peer{}, err
	}
	secretHash := sha256.Sum256(in.Secret)
	i, err := j.Redeem(ctx, Claim{ID: in.ID, Host: in.Host, SecretHash: secretHash[:], Key: keyHash, At: j.Now()})
	if err != nil {
		return joinAnswer{}, Peer{}, err
	}

	// From here on the token is used up for every other key. If anything fails now, the same
	// host can try again.
	peer := Peer{Stack: j.Authority.URIs[0].Host, Role: Host, Name: i.Host, ID: i.Member}
	cert, err := j.Issue(ctx, in.Request, Grant{Peer: peer, Addresses: i.Addresses, Life: DefaultLife})
	if err != nil {
		return joinAnswer{}, Peer{}, err
	}
	welcome, err := j.Welcome(ctx, peer)
	if err != nil {
		return joinAnswer{}, Peer{}, err
	}
	if len(welcome.Payload) > MaxPayload {
		return joinAnswer{}, Peer{}, fmt.Errorf("what host %s would be given has %d bytes, more than the %d that it reads", peer.Name, len(welcome.Payload), MaxPayload)
	}
	return joinAnswer{cert, welcome.Members, welcome.Payload}, peer, nil
}

func hashKey(key any) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return sum[:], nil
}

// Renewals renews the certificates of members.
type Renewals struct {
	Trust *Trust
	Issue Issue
	// Addresses returns the present addresses of a host.
	Addresses func(context.Context, Peer) ([]netip.Addr, error)
	Log       *slog.Logger
}

// Handler returns the handler for the requests of RenewAt.
func (n Renewals) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+RenewPath, func(w http.ResponseWriter, r *http.Request) {
		cert, peer, err := n.renew(w, r)
		if err != nil {
			n.Log.Warn("a certificate was not renewed", "from", r.RemoteAddr, "error", err)
			answerError(w, statusOf(ReasonOf(err)), err)
			return
		}
		n.Log.Info("the certificate of "+peer.String()+" was renewed", "from", r.RemoteAddr)
		answerJSON(w, http.StatusOK, renewAnswer{cert})
	})
	return bounded(n.Trust.RequirePeer(mux, Host))
}

func (n Renewals) renew(w http.ResponseWriter, r *http.Request) ([]byte, Peer, error) {
	peer, err := n.Trust.Peer(r)
	if err != nil {
		return nil, Peer{}, err
	}
	var in renewRequest
	if err := readRequest(w, r, &in); err != nil {
		return nil, peer, err
	}
	addresses, err := n.Addresses(r.Context(), peer)
	if err != nil {
		return nil, peer, err
	}
	cert, err := n.Issue(r.Context(), in.Request, Grant{Peer: peer, Addresses: addresses, Life: DefaultLife})
	return cert, peer, err
}
