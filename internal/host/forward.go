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

// CommandPath begins the paths of what a leader does for any host.
const CommandPath = "/v1/hosts/"

// RenewPath is where any host renews its own certificate.
const RenewPath = "/v1/renew"

// Renewed is the answer.
type Renewed struct {
	// Until is when the new certificate ends.
	Until time.Time `json:"until"`
}

// forwarded marks what another host has passed on: it is passed on no further.
const forwarded = "Holdfast-Forwarded"

// asker is who has asked what another host passes on: NAME/ID. Hosts trust each other in
// that: each of them has the stack's authority.
const asker = "Holdfast-Asker"

// commandLimit is how long a command may take.
const commandLimit = 30 * time.Second

// command carries a command out: in and out are JSON.
type command func(ctx context.Context, term uint64, from identity.Peer, in []byte) (any, error)

func decide[In, Out any](do func(ctx context.Context, term uint64, in In) (Out, error)) command {
	return decideFor(func(ctx context.Context, term uint64, _ identity.Peer, in In) (Out, error) { return do(ctx, term, in) })
}

func decideFor[In, Out any](do func(ctx context.Context, term uint64, from identity.Peer, in In) (Out, error)) command {
	return func(ctx context.Context, term uint64, from identity.Peer, in []byte) (any, error) {
		var value In
		if err := json.Unmarshal(in, &value); err != nil {
			return nil, fmt.Errorf("read the question: %w", err)
		}
		return do(ctx, term, from, value)
	}
}

// ask has a command carried out, here or by the leader.
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

// mark marks what this host passes on to the leader. One that is no member yet knows no
// leader, and asks any host, which may have to pass it on.
func (h *Host) mark(header http.Header) {
	if h.member.Status().Member {
		header.Set(forwarded, h.self.Name)
	}
}

// problem is the body of an error. Reason is that of an *identity.Error, and Later that it
// is a *laterError.
type problem struct {
	Error  string          `json:"error"`
	Reason identity.Reason `json:"reason,omitempty"`
	Later  bool            `json:"later,omitempty"`
}

// laterError is the error of a request of which nothing was carried out, because nobody could
// at that moment: another host begins to lead, or none does. Whoever asked may ask again.
type laterError struct{ error }

func (e *laterError) Unwrap() error { return e.error }

func later(text string) error { return &laterError{errors.New(text)} }

// toldError is an error that another host has told.
func toldError(status string, text []byte) error {
	var p problem
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

// leads is the term in which this host leads; 0: it does not.
func (h *Host) leads() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.term
}

const (
	// leaderLimit is how long this host waits for a leader that it has to ask itself.
	leaderLimit = 5 * time.Second
	// answerLimit is how long it waits for one in the name of somebody who asks again: they
	// are told soon what they wait for.
	answerLimit = 500 * time.Millisecond
)

// leader is the name of the host that leads.
func (h *Host) leader(ctx context.Context) (string, error) {
	// A host that has just joined is no member yet, and has heard of no leader: the others
	// know.
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

// anyOther is another host, the next one in turn each time. Go's own order of a map would
// not do: of one with few entries most of the time the first one comes first.
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

// transport connects to another host's port.
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

// handler answers at the host's port: members ask for commands and the control API, new
// hosts join.
func (h *Host) handler() http.Handler {
	return identity.SplitJoins(h.admitsRequest(h.Control()), h.joins().Handler())
}

// Control answers commands and the control API: here, when this host leads, and otherwise
// as the leader does.
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
			tell(w, http.StatusConflict, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Renewed{until}) // whoever asked may be gone
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
				tell(w, http.StatusServiceUnavailable, later(fmt.Sprintf("host %s leads, and its supervisor begins", h.self.Name)))
				return
			}
			api.ServeHTTP(w, r)
		})
	})
	return mux
}

// hereOrThere has a request answered by this host when it leads, else by the leader.
func (h *Host) hereOrThere(w http.ResponseWriter, r *http.Request, here func(term uint64)) {
	if term := h.leads(); term != 0 {
		here(term)
		return
	}
	if r.Header.Get(forwarded) != "" && h.member.Status().Member {
		tell(w, http.StatusServiceUnavailable, later(fmt.Sprintf("host %s does not lead any more", h.self.Name)))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerLimit)
	defer cancel()
	leader, err := h.leader(ctx)
	if err != nil {
		tell(w, http.StatusServiceUnavailable, err)
		return
	}
	h.passOn(leader, fmt.Sprintf("host %s leads and does not answer", leader)).ServeHTTP(w, r)
}

// carryOut answers a command. Who asks is who has the certificate; by the control socket it
// is this host.
func (h *Host) carryOut(w http.ResponseWriter, r *http.Request, term uint64, do command) {
	from := h.keeper.Credentials().Peer()
	if r.TLS != nil {
		var err error
		if from, err = h.trust.Peer(r); err != nil {
			tell(w, http.StatusForbidden, err)
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
		tell(w, http.StatusServiceUnavailable, err)
		return
	}
	if err != nil {
		tell(w, http.StatusConflict, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // whoever asked may be gone
}

// tell answers an error.
func tell(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	p := problem{Error: err.Error(), Reason: identity.ReasonOf(err), Later: errors.As(err, new(*laterError))}
	_ = json.NewEncoder(w).Encode(p) // whoever asked may be gone
}
