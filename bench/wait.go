package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/clock"
)

// until calls ask repeatedly until it returns nil. After the given time it returns the last error.
func until(ctx context.Context, within time.Duration, ask func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := ask()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %w", within, err)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// pause waits, at most until the context ends.
func pause(ctx context.Context, d time.Duration) error {
	if !clock.Sleep(ctx, d) {
		return ctx.Err()
	}
	return nil
}

// checkAccepts returns an error unless something listens there.
func checkAccepts(address string) error {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// freePort returns a free port below the range for outgoing connections, so that no connection of
// the load takes it before the server does.
func freePort() (int, error) {
	for range 100 {
		port := 15000 + rand.IntN(16000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port found")
}

// lookPath finds a program, also in directories that a user's PATH often lacks.
func lookPath(program string) (string, error) {
	if strings.Contains(program, "/") {
		return filepath.Abs(program)
	}
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + program); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("there is no program %s: run scripts/setup --bench", program)
}

// readReply reads one reply that is a line or a string (Redis serialization protocol).
func readReply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", errors.New("an empty reply of Redis")
	}
	switch kind, rest := line[0], line[1:]; kind {
	case '-':
		return "", errors.New(rest)
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", errors.New("no such value in Redis")
		}
		data := make([]byte, n+2)
		if _, err := io.ReadFull(r, data); err != nil {
			return "", err
		}
		return string(data[:n]), nil
	default:
		return rest, nil
	}
}
