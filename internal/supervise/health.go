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

// The limits for reading the body of a response, in bytes and in time.
const (
	maxHealthBody = 64 << 10
	maxHealthRead = 200 * time.Millisecond
)

// askHealth requests a path from a node, and returns an error unless the status is 2xx or 3xx.
// It sends word for word what HAProxy's check sends (http-check send, in package plan's
// haproxy.cfg), so that supervisor and balancers get the same response. A program's response may
// depend on the Host header, on headers that a library would add, or on whether the connection
// is new.
func (s *Supervisor) askHealth(ctx context.Context, p plan.Process, path string) error {
	conn, err := s.dialProbe(ctx, p)
	if errors.Is(err, machine.ErrRefused) {
		return fmt.Errorf("nothing listens on %s, its HOST and PORT (%w)", p.LocalAddress(), err)
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
	// Read to the end if possible: otherwise the program would see a reset of the connection.
	conn.SetReadDeadline(time.Now().Add(maxHealthRead))
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxHealthBody))

	if resp.StatusCode >= 200 && resp.StatusCode <= 399 {
		return nil
	}
	return &statusError{fmt.Sprintf("%s answers %s%s: %s", path, quote.Text(resp.Status), hostHint(p.Probe.Host, resp.StatusCode), quote.Text(strings.TrimSpace(string(body))))}
}

// hostHint returns the Host header that was sent, as a hint for a person, if that may be why the
// response was an error.
func hostHint(host string, status int) string {
	switch status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMisdirectedRequest:
		return fmt.Sprintf(" to a request for the host %s (health.host)", host)
	}
	return ""
}

// statusError is the error of a node that replied with a bad status.
type statusError struct{ msg string }

func (e *statusError) Error() string { return e.msg }
