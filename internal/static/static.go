// Package static serves a directory over HTTP as it is: GET and HEAD, ranges,
// modification times, and nothing outside the directory, whatever a path or a
// symbolic link says. It does not list directories.
package static

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"holdfast/internal/hostname"
)

// HealthPath answers 200 as long as the directory can be opened, whatever is
// in it. It hides a file of that name.
const HealthPath = "/healthz/live"

// Time limits of a connection; the idle one is longer than HAProxy keeps an
// idle connection to a server (pool-purge-delay, 5 s).
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 75 * time.Second
	drainTimeout  = 10 * time.Second
)

// Server serves one directory.
type Server struct {
	root  *os.Root
	node  string
	hosts *hostname.Set
}

// Open opens the directory to serve. node is told in the Holdfast-Node header
// when it is not empty. hosts are the names that it answers to; nil: all. Close the server when it no longer serves.
func Open(dir, node string, hosts *hostname.Set) (*Server, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory to serve: %w", err)
	}
	return &Server{root: root, node: node, hosts: hosts}, nil
}

// Close closes the directory.
func (s *Server) Close() error { return s.root.Close() }

// Serve answers requests on the listener until the context ends, and lets
// those under way finish, for 10 s at most.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    64 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := server.Shutdown(limit)
	<-served
	if err != nil {
		_ = server.Close()
		return fmt.Errorf("requests were still under way after %v: %w", drainTimeout, err)
	}
	return nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if s.node != "" {
		w.Header().Set("Holdfast-Node", s.node)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "The method is not allowed here; allowed are GET, HEAD.", http.StatusMethodNotAllowed)
		return
	}
	if r.URL.Path == HealthPath {
		s.health(w)
		return
	}
	// A page of another site whose name leads here could read them.
	if !s.hosts.Has([]byte(r.Host)) {
		http.Error(w, "The Host of the request is no name of this service; --hosts adds names (entry.hosts in the stack file).", http.StatusMisdirectedRequest)
		return
	}
	http.FileServerFS(files{s.root}).ServeHTTP(w, r)
}

// health answers whether the directory is still there.
func (s *Server) health(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	if _, err := s.root.Stat("."); err != nil {
		http.Error(w, "not well: the directory cannot be read", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("live\n"))
}

// files is the directory as the file server sees it: no name that starts with
// a dot, no directory without an index.html, nothing but regular files, and
// whatever leads out of the directory is not there.
type files struct{ root *os.Root }

func (f files) Open(name string) (fs.File, error) {
	missing := &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") && part != "." {
			return nil, missing
		}
	}
	// Looked at before it is opened: opening a named pipe would block.
	info, err := f.root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, err
	case err != nil:
		return nil, missing
	case info.IsDir():
		index, err := f.root.Stat(name + "/index.html")
		if err != nil || !index.Mode().IsRegular() {
			return nil, missing
		}
	case !info.Mode().IsRegular():
		return nil, missing
	}
	return f.root.FS().Open(name)
}
