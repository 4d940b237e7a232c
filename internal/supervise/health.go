package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
)

// How much of the body of an answer is read, in bytes and in time.
const (
	maxHealthBody = 64 << 10
	maxHealthRead = 200 * time.Millisecond
)

// askHealth asks a node for a path and wants a 2xx or 3xx. It asks word for word
// what HAProxy's check asks (http-check send, in package plan's haproxy.cfg), so
// that supervisor and balancers learn the same: a program may answer by the Host
// header, by others that a library would add, or only at new connections.
func (s *Supervisor) askHealth(ctx context.Context, p plan.Process, path string) error {
	conn, err := s.dialProbe(ctx, p)
	if errors.Is(err, machine.ErrRefused) {
		return fmt.Errorf("nothing listens on %s, its HOST and PORT (%w)", p.Near(), err)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n", path, p.Probe.Host)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if ctx.Err() != nil {
		return fmt.Errorf("%s: no answer in time", path)
	}
	if err != nil {
		return fmt.Errorf("%s: no answer in HTTP: %w", path, err)
	}
	defer resp.Body.Close()
	// To the end, as a rule: the program would see a reset otherwise.
	conn.SetReadDeadline(time.Now().Add(maxHealthRead))
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxHealthBody))
	if resp.StatusCode >= 200 && resp.StatusCode <= 399 {
		return nil
	}
	return &statusError{fmt.Sprintf("%s answers %s%s: %s", path, quote.Text(resp.Status), hostHint(p.Probe.Host, resp.StatusCode), quote.Text(strings.TrimSpace(string(body))))}
}

// hostHint says with which Host header a node was asked, where that may be why
// it did not answer well.
func hostHint(host string, status int) string {
	switch status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMisdirectedRequest:
		return fmt.Sprintf(" to a request for the host %s (health.host)", host)
	}
	return ""
}

// statusError is the error of a node that answered with a bad status.
type statusError struct{ msg string }

func (e *statusError) Error() string { return e.msg }
