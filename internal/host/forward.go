package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"holdfast/internal/agree"
	"holdfast/internal/identity"
)

// CommandPath is the prefix of the paths of the commands that the leader carries out for any
// host: see Host.commands.
const CommandPath = "/v1/hosts/"

// RenewPath is the path at which every host renews its own certificate.
const RenewPath = "/v1/renew"

// Renewed is the answer of RenewPath.
type Renewed struct {
	// Until is when the new certificate expires.
	Until time.Time `json:"until"`
}

// forwarded is the header of a request that another host has forwarded. Such a request is
// not forwarded again.
const forwarded = "Holdfast-Forwarded"

// asker is the header that names the original sender of a forwarded request: NAME/ID. Hosts
// trust each other with that, because each of them has the key of the stack's authority
// anyway.
const asker = "Holdfast-Asker"

// commandLimit is how long a command may take.
const commandLimit = 30 * time.Second

// command carries out a command of a host, in the term that this host leads in. In is JSON,
// and the result is to be encoded as JSON.
type command func(ctx context.Context, term uint64, from identity.Peer, in []byte) (any, error)

func handle[In, Out any](do func(ctx context.Context, term uint64, in In) (Out, error)) command {
	return handleFrom(func(ctx context.Context, term uint64, _ identity.Peer, in In) (Out, error) { return do(ctx, term, in) })
}

func handleFrom[In, Out any](do func(ctx context.Context, term uint64, from identity.Peer, in In) (Out, error)) command {
	return func(ctx context.Context, term uint64, from identity.Peer, in []byte) (any, error) {
		var value In
		if err := json.Unmarshal(in, &value); err != nil {
			return nil, fmt.Errorf("read the question: %w", err)
		}
		return do(ctx, term, from, value)
	}
}

// ask has a command carried out by the leader: in this process, if this host leads.
func ask[Out any](ctx context.Context, h *Host, name string, in any) (out Out, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()

	if term := h.leads(); term != 0 {
		answer, err := h.commands()[name](ctx, term, h.keeper.Credentials().Peer(), body)
		if err != nil {
			return out, err
		}
		result, _ := answer.(Out)
		return result, nil
	}

	leader, err := h.leader(ctx)
	if err != nil {
		return out, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+leader+CommandPath+name, bytes.NewReader(body))
	if err != nil {
		return out, err
	}
	h.mark(req.Header)

	client := http.Client{Transport: h.passing.to(h, leader)}
	resp, err := client.Do(req)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()

	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return out, err
	}
	if resp.StatusCode != http.StatusOK {
		return out, toldError(resp.Status, text)
	}
	return out, json.Unmarshal(text, &out)
}

// mark marks a request that this host forwards to the leader. A host that is no member yet
// does not know the leader, and sends its requests unmarked to any other host, which may have
// to forward them.
func (h *Host) mark(header http.Header) {
	if h.member.Status().Member {
		header.Set(forwarded, h.self.Name)
	}
}

// errorBody is the body of an error answer. Reason is the reason of an *identity.Error, and
// Later is true for a *laterError.
type errorBody struct {
	Error  string          `json:"error"`
	Reason identity.Reason `json:"reason,omitempty"`
	Later  bool            `json:"later,omitempty"`
}

// laterError is the error of a request that was certainly not carried out, because no host
// could do so at that moment: no host leads, or one is just beginning to. The client may send
// the request again.
type laterError struct{ error }

func (e *laterError) Unwrap() error { return e.error }

func later(text string) error { return &laterError{errors.New(text)} }

// toldError returns the error that is in another host's answer.
func toldError(status string, text []byte) error {
	var p errorBody
	switch {
	case json.Unmarshal(text, &p) != nil || p.Error == "":
		return fmt.Errorf("the leader answers %s", status)
	case p.Reason != "":
		return identity.Told(p.Reason, p.Error)
	case p.Later:
		return later(p.Error)
	}
	return errors.New(p.Error)
}

// leads returns the term in which this host leads, or 0 if it does not lead.
func (h *Host) leads() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.term
}

const (
	// leaderLimit is how long this host waits for a leader for a command of its own.
	leaderLimit = 5 * time.Second
	// answerLimit is how long it waits for a leader on behalf of a client. It is short: the
	// client asks again, and can show in between what it waits for.
	answerLimit = 500 * time.Millisecond
)

// leader returns the name of the host to send a command to: the one that leads. The error is
// a *laterError if there is none at the moment.
func (h *Host) leader(ctx context.Context) (string, error) {
	// A host that has just joined is no member yet and has heard of no leader. The others
	// have.
	if name, known := h.anyOther(); known && !h.member.Status().Member {
		return name, nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaderLimit)
	defer cancel()
	peer, err := h.member.Leader(ctx)
	switch {
	case err == nil && peer.Name == h.self.Name:
		return "", later("this host begins to lead")
	case err == nil:
		return peer.Name, nil
	case errors.Is(err, agree.ErrStopped):
		return "", err
	}
	return "", later("no host leads the stack: a majority of its hosts has to reach each other. What runs, runs on")
}

// anyOther returns the name of another host, the next one in turn with each call. Go's random
// order of a map would not spread the calls: for a small map, most iterations begin with the
// same entry.
func (h *Host) anyOther() (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for _, m := range h.roster.members() {
		if m.Name != h.self.Name {
			names = append(names, m.Name)
		}
	}
	if len(names) == 0 {
		return "", false
	}
	h.turn++
	return names[h.turn%len(names)], true
}

// transport returns an HTTP transport that connects to another host's port.
func (h *Host) transport(name string) *http.Transport {
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, reachLimit)
			defer cancel()
			conn, err := h.connect(ctx, name, webProtocol)
			if err != nil {
				return nil, &unsentError{err}
			}
			return conn, nil
		},
		DisableCompression: true, IdleConnTimeout: 10 * time.Second,
	}
}

// handler returns the handler of the host's port: hosts and operators use commands and the
// control API, and new hosts join.
func (h *Host) handler() http.Handler {
	return identity.SplitJoins(h.admitsRequest(h.Control()), h.joins().Handler())
}

// Control returns the handler of the commands and the control API. It serves them here if this
// host leads, and otherwise forwards them to the leader. A few paths are served by every host
// itself: its list of the hosts, the renewal of its certificate, and what is below AtPath.
func (h *Host) Control() http.Handler {
	mux := http.NewServeMux()
	commands := h.commands()
	mux.HandleFunc("POST "+CommandPath+"{name}", func(w http.ResponseWriter, r *http.Request) {
		do := commands[r.PathValue("name")]
		if do == nil {
			http.NotFound(w, r)
			return
		}
		h.hereOrThere(w, r, func(term uint64) { h.carryOut(w, r, term, do) })
	})

	mux.HandleFunc("GET "+ListPath, h.list)
	mux.HandleFunc("POST "+RenewPath, func(w http.ResponseWriter, r *http.Request) {
		until, err := h.Renew(r.Context())
		if err != nil {
			writeError(w, http.StatusConflict, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Renewed{until}) // the client may be gone
	})

	mux.HandleFunc("POST "+doubtPath, h.doubt)
	mux.HandleFunc("GET "+AtPath+"{host}/", h.at)
	mux.HandleFunc("POST "+AtPath+"{host}/", h.at)
	mux.HandleFunc("DELETE "+AtPath+"{host}/", h.at)

	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.hereOrThere(w, r, func(uint64) {
			h.mu.Lock()
			api := h.api
			h.mu.Unlock()
			if api == nil {
				writeError(w, http.StatusServiceUnavailable, later(fmt.Sprintf("host %s leads, and its supervisor begins", h.self.Name)))
				return
			}
			api.ServeHTTP(w, r)
		})
	})
	return mux
}

// hereOrThere calls here with the term if this host leads, and otherwise forwards the request
// to the leader.
func (h *Host) hereOrThere(w http.ResponseWriter, r *http.Request, here func(term uint64)) {
	if term := h.leads(); term != 0 {
		here(term)
		return
	}

	if r.Header.Get(forwarded) != "" && h.member.Status().Member {
		writeError(w, http.StatusServiceUnavailable, later(fmt.Sprintf("host %s does not lead any more", h.self.Name)))
		return
	}

	ctx, cancel := context.WithTimeout(r.Context(), answerLimit)
	defer cancel()
	leader, err := h.leader(ctx)
	if err != nil {
		writeError(w, http.StatusServiceUnavailable, err)
		return
	}
	h.passOn(leader, fmt.Sprintf("host %s leads and does not answer", leader)).ServeHTTP(w, r)
}

// carryOut carries out a command and writes its answer. The sender is the owner of the
// client's certificate, or the original sender that a forwarding host names in the header
// asker. A request from the control socket has no certificate: it comes from this host.
func (h *Host) carryOut(w http.ResponseWriter, r *http.Request, term uint64, do command) {
	from := h.keeper.Credentials().Peer()
	if r.TLS != nil {
		var err error
		if from, err = h.trust.Peer(r); err != nil {
			writeError(w, http.StatusForbidden, err)
			return
		}
		if name, id, passedOn := strings.Cut(r.Header.Get(asker), "/"); passedOn && from.Role == identity.Host {
			from.Name, from.ID = name, id
		}
	}

	ctx, cancel := context.WithTimeout(r.Context(), commandLimit)
	defer cancel()
	in, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	var out any
	if err == nil {
		out, err = do(ctx, term, from, in)
	}

	if errors.Is(err, errHandsOver) {
		writeError(w, http.StatusServiceUnavailable, err)
		return
	}
	if err != nil {
		writeError(w, http.StatusConflict, err)
		return
	}

	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // the client may be gone
}

// writeError writes an error as the answer.
func writeError(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	p := errorBody{Error: err.Error(), Reason: identity.ReasonOf(err), Later: errors.As(err, new(*laterError))}
	_ = json.NewEncoder(w).Encode(p) // the client may be gone
}
