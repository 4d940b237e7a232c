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

// Member is a host of the stack, as a new host is told of it.
type Member struct {
	Name      string           `json:"name"`
	ID        string           `json:"id"` // Peer.ID
	Addresses []netip.AddrPort `json:"addresses"`
}

// Welcome is what a new host gets beside its certificate.
type Welcome struct {
	Members []Member
	// Payload is the caller's: what else the new host needs to begin; at most MaxPayload bytes.
	Payload []byte
}

// MaxPayload is how much a new host may be given.
const MaxPayload = 4 << 20

// Issue has a certificate issued for a request (both in DER), by whoever has the authority.
type Issue func(ctx context.Context, request []byte, g Grant) ([]byte, error)

// Issuer returns the Issue of a host that has the authority.
func (a *Authority) Issuer(now func() time.Time, random io.Reader) Issue {
	return func(_ context.Context, request []byte, g Grant) ([]byte, error) {
		return a.Issue(request, g, now(), random)
	}
}

// Joins lets hosts join. Its functions may be called from any goroutine. Their errors stay
// in the log, but an *Error is told to the new host.
type Joins struct {
	Authority *x509.Certificate
	// Redeem calls Invitations.Redeem where the stack keeps its invitations, and returns
	// when the outcome will not be lost.
	Redeem func(context.Context, Claim) (Invitation, error)
	Issue  Issue
	// Welcome is asked after the token was found good, and makes the host a member. It is
	// asked again for the same peer when the answer was lost.
	Welcome func(context.Context, Peer) (Welcome, error)
	Now     func() time.Time
	Log     *slog.Logger
}

// Handler answers what Join asks. Only AdmitJoins and SplitJoins bring it requests of hosts
// without a certificate.
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
		if !limit.begin() { // only now, so that nobody holds a place who is slow to ask
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
	// A request that nobody can sign must not use the token up.
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

	// From here on the token is used up, but not for this key: whatever fails now, the same
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
	// Addresses returns where a host is reached now.
	Addresses func(context.Context, Peer) ([]netip.Addr, error)
	Log       *slog.Logger
}

// Handler answers what RenewAt asks.
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
