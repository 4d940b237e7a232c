package backup

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/encrypt"
)

// Server is a Redis server that was started to load a dump. It listens only on a unix
// socket that no other user can reach, and writes nothing to disk. It is not safe for
// concurrent use.
type Server struct {
	cmd    *exec.Cmd
	dir    string
	output *lastWords
	ended  chan struct{}
	conn   net.Conn
	in     *bufio.Reader
	closed bool
}

// LoadError is why a Redis server did not load a dump, with the server's last output.
type LoadError struct{ err error }

func (e *LoadError) Error() string { return e.err.Error() }
func (e *LoadError) Unwrap() error { return e.err }

// Load starts a Redis server that loads a dump. The dump goes to it through a pipe, and
// is not written to disk. The server is a replica of a master that does not exist,
// because a replica does not remove expired keys: so it has every key of the dump. The
// caller has to call Close. After an error, the dump may still be read for a moment.
func Load(ctx context.Context, program string, dump io.Reader) (_ *Server, err error) {
	dir, err := shortTemp()
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, output: &lastWords{}, ended: make(chan struct{})}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()

	pipe := filepath.Join(dir, "dump.rdb")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		return nil, fmt.Errorf("make a pipe for the dump: %w", err)
	}
	// Opened for reading and writing, the pipe does not block until the server opens it,
	// and can be closed while nobody reads. It stays open until the dump is loaded,
	// because data in a pipe is lost when no process has it open.
	in, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer in.Close()

	if err := s.start(program); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()

	defer context.AfterFunc(ctx, func() { in.Close() })()
	fed := make(chan error, 1)
	go func() {
		_, err := io.Copy(in, struct{ io.Reader }{dump})
		fed <- err
	}()

	select {
	case err = <-fed:
	case <-s.ended: // awaitLoaded returns why
	case <-ctx.Done():
	}

	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if Unusable(err) || errors.As(err, new(*encrypt.KeyError)) {
		return nil, err
	}
	return s, s.awaitLoaded(ctx)
}

// shortTemp makes a temporary directory with a path short enough for a unix socket in it.
func shortTemp() (string, error) {
	const longest = 90 // a socket's path may have 103 bytes (unix(7))
	dir, err := os.MkdirTemp("", "holdfast-load-")
	if err == nil && len(dir) > longest {
		os.Remove(dir)
		dir, err = os.MkdirTemp("/tmp", "holdfast-load-")
	}
	return dir, err
}

func (s *Server) socket() string { return filepath.Join(s.dir, "redis.sock") }

func (s *Server) start(program string) error {
	s.cmd = exec.Command(program, "--port", "0", "--unixsocket", s.socket(), "--unixsocketperm", "600",
		"--dir", s.dir, "--dbfilename", "dump.rdb", "--appendonly", "no", "--save", "", "--daemonize", "no",
		"--logfile", "", "--databases", "1024", "--maxmemory", "0", "--crash-log-enabled", "no",
		// No process listens at port 1. The replica tries it once a second.
		"--replicaof", "127.0.0.1", "1")
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	s.cmd.Dir = s.dir
	s.cmd.Env = []string{"PATH=" + filepath.Dir(program)}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start a Redis server for the dump: %w", err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	return nil
}

// awaitLoaded waits until the server has loaded the data and answers.
func (s *Server) awaitLoaded(ctx context.Context) error {
	for {
		answer, err := s.Do("PING")
		if err == nil && answer == "PONG" {
			return nil
		}
		select {
		case <-s.ended:
			return &LoadError{fmt.Errorf("the Redis server does not load the dump: %s", s.output.reason())}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Do sends one command and returns its answer, which must be a text or a number.
func (s *Server) Do(words ...string) (string, error) {
	answer, err := s.do(words)
	var refusal *redisRefusal
	if err != nil && !errors.As(err, &refusal) && s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	return answer, err
}

// redisRefusal is an error answer of Redis.
type redisRefusal struct{ words string }

func (e *redisRefusal) Error() string { return e.words }

func (s *Server) do(words []string) (string, error) {
	if s.conn == nil {
		conn, err := net.Dial("unix", s.socket())
		if err != nil {
			return "", err
		}
		s.conn, s.in = conn, bufio.NewReader(conn)
	}

	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	s.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := s.conn.Write(b.Bytes()); err != nil {
		return "", err
	}

	line, err := s.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")

	switch kind, rest := line[:min(1, len(line))], line[min(1, len(line)):]; kind {
	case "+", ":":
		return rest, nil
	case "-":
		return "", &redisRefusal{rest}
	case "$":
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", err
		}
		text := make([]byte, n+2)
		_, err = io.ReadFull(s.in, text)
		return string(text[:n]), err
	}
	return "", fmt.Errorf("unexpected answer %.40q", line)
}

// Counts returns how many keys each database has.
func (s *Server) Counts() (map[int]Count, error) {
	text, err := s.Do("INFO", "keyspace")
	if err != nil {
		return nil, fmt.Errorf("ask how many keys were loaded: %w", err)
	}
	counts := map[int]Count{}
	for line := range strings.Lines(text) {
		var db int
		var c Count
		if n, _ := fmt.Sscanf(line, "db%d:keys=%d,expires=%d", &db, &c.Keys, &c.Expires); n == 3 {
			counts[db] = c
		}
	}
	return counts, nil
}

// Close ends the server and removes its files. It may be called twice.
func (s *Server) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if s.conn != nil {
		s.conn.Close()
	}
	_ = s.cmd.Process.Kill() // it has no data to save
	<-s.ended
	return os.RemoveAll(s.dir)
}

// lastWords keeps the end of a program's output.
type lastWords struct{ b []byte }

const keptWords = 8 << 10

func (w *lastWords) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	if over := len(w.b) - keptWords; over > 0 {
		w.b = append(w.b[:0], w.b[over:]...)
	}
	return len(p), nil
}

// reason returns the last lines of a Redis server's output that matter: warnings ("#"), and
// lines that are not in the log's format.
func (w *lastWords) reason() string {
	var all []string
	for line := range strings.Lines(string(w.b)) {
		line = strings.TrimSpace(line)
		if _, said, found := strings.Cut(line, " # "); found && !strings.Contains(said, "overcommit") {
			all = append(all, said)
		} else if line != "" && !strings.Contains(line, " * ") && !strings.Contains(line, " # ") {
			all = append(all, line)
		}
	}
	if len(all) == 0 {
		return "it ended without a word"
	}
	return strings.Join(all[max(0, len(all)-2):], "; ")
}
