package host

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// AtPath begins the paths of what one host answers itself, such as its logs, and of what is
// sent to one host: AtPath + HOST + what is asked. Any host passes the request on to the one
// that it is for, also while no host leads.
const AtPath = "/v1/at/"

// at answers about this host, or as the host that is asked for does.
func (h *Host) at(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("host")
	switch _, known := h.addressOf(name); {
	case name == h.self.Name && h.cfg.Own == nil:
		tell(w, http.StatusNotFound, errors.New("this host says nothing of itself"))
	case name == h.self.Name:
		http.StripPrefix(AtPath+name, h.cfg.Own).ServeHTTP(w, r)
	case !known:
		tell(w, http.StatusNotFound, fmt.Errorf("no host of the stack is called %q", name))
	case r.Header.Get(forwarded) != "":
		tell(w, http.StatusServiceUnavailable, fmt.Errorf("this is host %s, and not host %s", h.self.Name, name))
	default:
		h.passOn(name, fmt.Sprintf("host %s does not answer", name)).ServeHTTP(w, r)
	}
}

// passOn hands requests on to another host. Silent is what is said where it cannot be
// reached.
func (h *Host) passOn(name, silent string) http.Handler {
	return &httputil.ReverseProxy{
		Transport:     h.passing.to(h, name),
		FlushInterval: -1, // events are a stream
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
			tell(w, http.StatusServiceUnavailable, unanswered(r, silent, err))
		},
	}
}

// unanswered is the error of a request that was passed on and got no answer. What reads, and
// what was never sent, can be asked again.
func unanswered(r *http.Request, silent string, err error) error {
	if r.Method == http.MethodGet || errors.As(err, new(*unsentError)) {
		return &laterError{fmt.Errorf("%s: %w", silent, err)}
	}
	return fmt.Errorf("%s, so that it is not known whether it did what it was asked for; 'holdfast status' shows what became of it (%w)", silent, err)
}

// unsentError is the error of a request that was not sent: the other host was not reached.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

// passing are the connections by which this host passes questions on: a host that is asked
// often makes no new one for each.
type passing struct {
	mu    sync.Mutex
	hosts map[string]*http.Transport
}

// passingIdle is how long a connection stays open that nobody uses. It is shorter than the
// other end's patience (identity.NewServer).
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

// close ends the connections that nobody uses.
func (p *passing) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.hosts {
		t.CloseIdleConnections()
	}
}
