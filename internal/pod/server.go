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

// The paths that a pod serves, at plan.PodPort.
const (
	AboutPath = "/about" // an Answer, for the other pods, with TLS
	LivePath  = "/live"  // for the kubelet: the pod's own process lives
	ReadyPath = "/ready" // for the kubelet: its node can serve
)

// Server tells the kubelet and the other pods about the state of this pod. The kubelet asks
// without TLS, and is told nothing about the stack. Pods ask with TLS, and both ends show a
// certificate of the stack's authority.
type Server struct {
	port   *port
	plain  *http.Server
	secure *http.Server
	served sync.WaitGroup

	mu     sync.Mutex
	about  func() Answer // nil while nothing is known yet
	ready  func() error
	reason error // why the pod is not ready, while ready is nil
}

// Listen starts a Server at every address of the pod. The pod is not ready before SetReady.
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

// patientServer returns a server that waits for a client no longer than patience.
func patientServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadTimeout: patience, WriteTimeout: 2 * patience, IdleTimeout: patience,
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// SetTLS starts to serve the other pods, with these settings.
func (s *Server) SetTLS(settings *tls.Config) { s.port.settings.Store(settings) }

// Close closes the port and all its connections, and waits until they have ended.
func (s *Server) Close() error {
	err := errors.Join(s.port.Close(), s.plain.Close(), s.secure.Close())
	s.served.Wait()
	return err
}

// SetAbout sets the function that returns what the other pods are told. Until then they get
// 503.
func (s *Server) SetAbout(about func() Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.about = about
}

// SetWaiting sets the reason why the node has not been started.
func (s *Server) SetWaiting(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reason = errors.New(why)
}

// SetReady sets the function that returns nil if the node can serve, and otherwise why not.
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
	_ = json.NewEncoder(w).Encode(about()) // an error means that the other pod has gone; it asks again
}

// Ask asks the pod at an address what it remembers. The settings determine which pod it has to
// be (Identity.Client).
func Ask(ctx context.Context, address string, settings *tls.Config) (Answer, error) {
	return ask(ctx, net.JoinHostPort(address, strconv.Itoa(plan.PodPort)), settings)
}

func ask(ctx context.Context, address string, settings *tls.Config) (a Answer, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+AboutPath, nil)
	if err != nil {
		return a, err
	}
	// No keep-alive: the Service may lead to another pod the next time.
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
