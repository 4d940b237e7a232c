// Package static serves a directory over HTTP as it is: GET and HEAD, ranges, modification times.
// It serves nothing outside the directory, whatever a path or a symbolic link says, and lists no
// directories.
//
// Open opens the directory, and Serve serves it until the context ends.
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

// HealthPath answers 200 as long as the directory can be opened, whatever is in it. It hides a file
// of that name.
const HealthPath = "/healthz/live"

// Time limits of a connection. The idle one is longer than HAProxy keeps an idle connection to a
// server (pool-purge-delay, 5 s).
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

// Open opens the directory to serve. node, if it is not empty, is the value of the Holdfast-Node
// header. hosts are the host names that the server answers to; nil: all. The server has to be
// closed when it no longer serves.
func Open(dir, node string, hosts *hostname.Set) (*Server, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory to serve: %w", err)
	}
	return &Server{root: root, node: node, hosts: hosts}, nil
}

// Close closes the directory.
func (s *Server) Close() error { return s.root.Close() }

// Serve serves requests on the listener until the context ends. Then it lets those under way
// finish, for at most 10 s.
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
	// A page of another site whose name leads here could read the files.
	if !s.hosts.Has([]byte(r.Host)) {
		http.Error(w, "The Host of the request is no name of this service; --hosts adds names (entry.hosts in the stack file).", http.StatusMisdirectedRequest)
		return
	}
	http.FileServerFS(files{s.root}).ServeHTTP(w, r)
}

// health reports whether the directory still exists.
func (s *Server) health(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	if _, err := s.root.Stat("."); err != nil {
		http.Error(w, "not well: the directory cannot be read", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("live\n"))
}

// files is the directory as the file server sees it. Names that start with a dot, directories
// without an index.html, anything but regular files, and whatever leads out of the directory do not
// exist in it.
type files struct{ root *os.Root }

func (f files) Open(name string) (fs.File, error) {
	missing := &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") && part != "." {
			return nil, missing
		}
	}
	// This is checked before opening, because opening a named pipe would block.
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
