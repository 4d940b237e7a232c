package pod

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"

	"holdfast/internal/plan"
)

// The paths at which a pod answers, at plan.PodPort.
const (
	AboutPath = "/about" // an Answer, for the other pods, with TLS
	LivePath  = "/live"  // for the kubelet: the pod's own process lives
	ReadyPath = "/ready" // for the kubelet: its node can serve
)

// Server tells the kubelet and the other pods how this one is. The kubelet asks in plain, and
// hears nothing of the stack; pods ask with TLS, and both ends show a certificate of the
// stack's authority.
type Server struct {
	port   *port
	plain  *http.Server
	secure *http.Server
	served sync.WaitGroup

	mu     sync.Mutex
	about  func() Answer // nil: nothing is known yet
	ready  func() error
	reason error // why it is not ready, as long as ready is nil
}

// Listen starts a Server at every address of the pod. It is not ready before SetReady.
func Listen() (*Server, error) {
	l, err := net.Listen("tcp", ":"+strconv.Itoa(plan.PodPort))
	if err != nil {
		return nil, err
	}
	return serve(l), nil
}

func serve(l net.Listener) *Server {
	s := &Server{port: newPort(l), reason: errors.New("the pod has not begun")}
	probes := http.NewServeMux()
	probes.HandleFunc("GET "+LivePath, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	probes.HandleFunc("GET "+ReadyPath, s.showReady)
	s.plain = patientServer(probes)
	about := http.NewServeMux()
	about.HandleFunc("GET "+AboutPath, s.showAbout)
	s.secure = patientServer(about)
	s.served.Go(s.port.serve)
	s.served.Go(func() { _ = s.plain.Serve(s.port.plain) })
	s.served.Go(func() { _ = s.secure.Serve(s.port.secure) })
	return s
}

// patientServer waits for nobody for longer than patience.
func patientServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadTimeout: patience, WriteTimeout: 2 * patience, IdleTimeout: patience,
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// SetTLS has the other pods be answered from now on, with these settings.
func (s *Server) SetTLS(settings *tls.Config) { s.port.settings.Store(settings) }

// Close ends it.
func (s *Server) Close() error {
	err := errors.Join(s.port.Close(), s.plain.Close(), s.secure.Close())
	s.served.Wait()
	return err
}

// SetAbout sets who knows what the other pods are told; until then they are told nothing.
func (s *Server) SetAbout(about func() Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.about = about
}

// SetWaiting says why the node has not been started.
func (s *Server) SetWaiting(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reason = errors.New(why)
}

// SetReady sets who knows whether the node can serve; an error says why not.
func (s *Server) SetReady(ready func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = ready
}

func (s *Server) showReady(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	ready, err := s.ready, s.reason
	s.mu.Unlock()
	if ready != nil {
		err = ready()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (s *Server) showAbout(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	about := s.about
	s.mu.Unlock()
	if about == nil {
		http.Error(w, "the pod has not begun", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(about()) // who asked has gone, and asks again
}

// Ask asks the pod at an address what it remembers. The settings say whom it has to be.
func Ask(ctx context.Context, address string, settings *tls.Config) (Answer, error) {
	return ask(ctx, net.JoinHostPort(address, strconv.Itoa(plan.PodPort)), settings)
}

func ask(ctx context.Context, address string, settings *tls.Config) (a Answer, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+AboutPath, nil)
	if err != nil {
		return a, err
	}
	// A Service may lead to another pod the next time.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: settings}}
	answer, err := client.Do(request)
	if err != nil {
		return a, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return a, fmt.Errorf("ask the pod at %s: %s", address, answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, impossible("what it says cannot be read: %v", err)
	}
	return a, nil
}
