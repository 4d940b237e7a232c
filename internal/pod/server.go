package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"holdfast/internal/plan"
)

// The paths at which a pod answers, at plan.PodPort.
const (
	AboutPath = "/about" // an Answer, for the other pods
	LivePath  = "/live"  // for the kubelet: the pod's own process lives
	ReadyPath = "/ready" // for the kubelet: its node can serve
)

// Server tells the kubelet and the other pods how this one is.
type Server struct {
	listener net.Listener
	server   *http.Server
	served   chan error

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
	s := &Server{listener: l, served: make(chan error, 1), reason: errors.New("the pod has not begun")}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+LivePath, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET "+ReadyPath, s.showReady)
	mux.HandleFunc("GET "+AboutPath, s.showAbout)
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { s.served <- s.server.Serve(l) }()
	return s, nil
}

// Close ends it.
func (s *Server) Close() error {
	err := s.server.Close()
	<-s.served
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

// Ask asks the pod at an address what it remembers.
func Ask(ctx context.Context, address string) (a Answer, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(address, strconv.Itoa(plan.PodPort))+AboutPath, nil)
	if err != nil {
		return a, err
	}
	// A Service may lead to another pod the next time.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return a, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return a, fmt.Errorf("ask the pod at %s: %s", address, answer.Status)
	}
	return a, json.NewDecoder(io.LimitReader(answer.Body, 1<<16)).Decode(&a)
}
