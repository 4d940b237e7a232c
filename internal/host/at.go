package host

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// AtPath is the prefix of the paths that concern one certain host, such as its logs:
// AtPath + HOST + path. Every host forwards such a request to the host that it names, also
// while no host leads.
const AtPath = "/v1/at/"

// at serves a request below AtPath: here, if it names this host, and otherwise by forwarding
// it to the host that it names. A request is forwarded once at most.
func (h *Host) at(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("host")
	switch _, known := h.addressOf(name); {
	case name == h.self.Name && h.cfg.Own == nil:
		writeError(w, http.StatusNotFound, errors.New("this host says nothing of itself"))
	case name == h.self.Name:
		http.StripPrefix(AtPath+name, h.cfg.Own).ServeHTTP(w, r)
	case !known:
		writeError(w, http.StatusNotFound, fmt.Errorf("no host of the stack is called %q", name))
	case r.Header.Get(forwarded) != "":
		writeError(w, http.StatusServiceUnavailable, fmt.Errorf("this is host %s, and not host %s", h.self.Name, name))
	default:
		h.passOn(name, fmt.Sprintf("host %s does not answer", name)).ServeHTTP(w, r)
	}
}

// passOn returns a handler that forwards requests to another host. Silent is the error text
// for the case that this host cannot be reached.
func (h *Host) passOn(name, silent string) http.Handler {
	return &httputil.ReverseProxy{
		Transport:     h.passing.to(h, name),
		FlushInterval: -1, // a stream of events must not be buffered
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "https", name
			h.mark(p.Out.Header)
			p.Out.Header.Del(asker)
			if p.In.TLS != nil {
				if from, err := h.trust.Peer(p.In); err == nil {
					p.Out.Header.Set(asker, from.Name+"/"+from.ID)
				}
			}
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			writeError(w, http.StatusServiceUnavailable, unanswered(r, silent, err))
		},
	}
}

// unanswered returns the error for a forwarded request that got no answer. It is a
// *laterError if the request can be repeated safely: it only reads, or was never sent.
func unanswered(r *http.Request, silent string, err error) error {
	if r.Method == http.MethodGet || errors.As(err, new(*unsentError)) {
		return &laterError{fmt.Errorf("%s: %w", silent, err)}
	}
	return fmt.Errorf("%s, so that it is not known whether it did what it was asked for; 'holdfast status' shows what became of it (%w)", silent, err)
}

// unsentError is the error of a request that was not sent: the other host was not reached.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

// passing keeps the connections on which this host forwards requests, so that it does not
// open a new one for each request. It is safe for concurrent use.
type passing struct {
	mu    sync.Mutex
	hosts map[string]*http.Transport
}

// passingIdle is how long an idle connection stays open. It is shorter than the idle time-out
// of the server at the other end (identity.NewServer): otherwise a request could be sent on a
// connection that the server is just closing.
const passingIdle = 30 * time.Second

func (p *passing) to(h *Host, name string) *http.Transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.hosts[name]
	if t == nil {
		t = h.transport(name)
		t.IdleConnTimeout = passingIdle
		if p.hosts == nil {
			p.hosts = map[string]*http.Transport{}
		}
		p.hosts[name] = t
	}
	return t
}

// close closes the idle connections.
func (p *passing) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.hosts {
		t.CloseIdleConnections()
	}
}
