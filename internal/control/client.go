package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/quote"
	"holdfast/internal/supervise"
)

// ErrNoSupervisor means that no process answers on the control socket.
var ErrNoSupervisor = errors.New("no supervisor runs")

// UnknownNodeError is the error when the stack has no such node.
type UnknownNodeError struct{ msg string }

func (e *UnknownNodeError) Error() string { return e.msg }

// Client talks to the supervisor of a stack. It is safe for concurrent use.
type Client struct {
	http *http.Client
	// onWait is called with what the client waits for. It is nil for a client that does not repeat
	// requests.
	onWait func(why string)
}

// NewClient returns a client for the stack of a state directory. It does not connect.
func NewClient(stateDir string) *Client {
	path := filepath.Join(stateDir, SocketName)
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", path)
			switch {
			case err == nil:
				return conn, nil
			case ctx.Err() != nil || errors.Is(err, os.ErrPermission):
				return nil, err // there may be a supervisor
			}
			return nil, ErrNoSupervisor
		},
	}}}
}

const (
	// patience is how long a client of RetryWhileBusy waits. That is enough for hosts to elect
	// another leader, and for its supervisor to find the nodes.
	patience = 15 * time.Second
	// quiet is how long it waits before it calls onWait.
	quiet = time.Second
	// askAgain is the time between two attempts.
	askAgain = 200 * time.Millisecond
)

// RetryWhileBusy returns a client that repeats a request, for 15 s at most, while the answer is a
// *BusyError with Later set: another host is being elected, or the supervisor is starting. Tell
// is called once for each request that has waited longer than a second.
func (c *Client) RetryWhileBusy(tell func(why string)) *Client { return &Client{c.http, tell} }

// Status returns the stack's status.
func (c *Client) Status(ctx context.Context) (supervise.Status, error) {
	var s supervise.Status
	body, err := c.do(ctx, http.MethodGet, "/v1/status")
	if err != nil {
		return s, err
	}
	defer body.Close()
	return s, json.NewDecoder(body).Decode(&s)
}

// Do requests an action on a node, and waits until its goal is reached.
func (c *Client) Do(ctx context.Context, node string, action supervise.Action) error {
	return c.post(ctx, "/v1/nodes/"+url.PathEscape(node)+"/"+string(action))
}

// Switchover makes another redis node the master. If to is empty, the supervisor chooses it.
func (c *Client) Switchover(ctx context.Context, to string) (supervise.Switched, error) {
	var done supervise.Switched
	body, err := c.do(ctx, http.MethodPost, "/v1/switchover?to="+url.QueryEscape(to))
	if err != nil {
		return done, err
	}
	defer body.Close()
	return done, json.NewDecoder(body).Decode(&done)
}

// NoteBackup reports the outcome of a backup that this host has made.
func (c *Client) NoteBackup(ctx context.Context, b supervise.BackupState) error {
	body, err := c.send(ctx, "/v1/backup", b)
	if err != nil {
		return err
	}
	return body.Close()
}

// Rest takes a host down for maintenance, and waits until it is down. If something would stop
// working without the host, Rest returns an error unless anyway is true.
func (c *Client) Rest(ctx context.Context, host string, anyway bool) error {
	return c.post(ctx, fmt.Sprintf("/v1/rest?host=%s&anyway=%t", url.QueryEscape(host), anyway))
}

// Down requests that the stack is taken down, and does not wait. The stack is down when Status
// returns ErrNoSupervisor.
func (c *Client) Down(ctx context.Context, purge bool) error {
	return c.post(ctx, fmt.Sprintf("/v1/down?purge=%t", purge))
}

// Events yields the status and then each change of a node, until the supervisor ends, the
// caller is too slow, or ctx ends.
func (c *Client) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		body, err := c.do(ctx, http.MethodGet, "/v1/events")
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer body.Close()
		in := json.NewDecoder(body)
		for {
			var e Event
			if err := in.Decode(&e); err != nil {
				if ctx.Err() == nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					yield(Event{}, err)
				}
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// InitHosts requests that a stack on a single machine becomes one of several hosts, with this
// machine as the first, and does not wait. It has become one when Hosts returns no error.
func (c *Client) InitHosts(ctx context.Context, h InitRequest) error {
	body, err := c.send(ctx, "/v1/found", h)
	if err != nil {
		return err
	}
	return body.Close()
}

func (c *Client) post(ctx context.Context, path string) error {
	body, err := c.do(ctx, http.MethodPost, path)
	if err != nil {
		return err
	}
	return body.Close()
}

// UsageError is the error of a request that names something that does not exist.
type UsageError struct{ msg string }

func (e *UsageError) Error() string { return e.msg }

// BusyError is the error of a request that cannot be carried out now: no host leads, or the
// leader is not ready. If Later is true, nothing was carried out, and the request can be sent
// again. Otherwise it may have been carried out.
type BusyError struct {
	Why   string
	Later bool
}

func (e *BusyError) Error() string { return e.Why }

// send posts a value as JSON.
func (c *Client) send(ctx context.Context, path string, v any) (io.ReadCloser, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return c.ask(ctx, http.MethodPost, path, b)
}

func (c *Client) do(ctx context.Context, method, path string) (io.ReadCloser, error) {
	return c.ask(ctx, method, path, nil)
}

// ask sends a request, and repeats it if this is a client of RetryWhileBusy.
func (c *Client) ask(ctx context.Context, method, path string, content []byte) (io.ReadCloser, error) {
	told := false
	for began := time.Now(); ; {
		body, err := c.askOnce(ctx, method, path, bytes.NewReader(content))
		busy := new(BusyError)
		if c.onWait == nil || !errors.As(err, &busy) || !busy.Later || time.Since(began) > patience {
			return body, err
		}
		if !told && time.Since(began) > quiet {
			told = true
			c.onWait(busy.Why)
		}
		if !clock.Sleep(ctx, askAgain) {
			return nil, ctx.Err()
		}
	}
}

func (c *Client) askOnce(ctx context.Context, method, path string, content io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, content)
	if err != nil {
		return nil, err
	}

	resp, err := c.http.Do(req)
	if err != nil {
		// There is no supervisor, or it has ended during the request.
		for _, gone := range []error{ErrNoSupervisor, io.EOF, syscall.ECONNRESET, syscall.EPIPE} {
			if errors.Is(err, gone) {
				return nil, ErrNoSupervisor
			}
		}
		return nil, fmt.Errorf("ask the supervisor: %w", err)
	}

	if resp.StatusCode < 300 {
		return resp.Body, nil
	}

	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var p errorBody
	if json.Unmarshal(b, &p) != nil || p.Error == "" {
		p.Error = fmt.Sprintf("the supervisor answers %s: %s", quote.Text(resp.Status), quote.Text(string(b)))
	}

	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil, &UnknownNodeError{p.Error}
	case http.StatusBadRequest:
		return nil, &UsageError{p.Error}
	case http.StatusServiceUnavailable:
		if p.Waits {
			return nil, &WaitsError{p.Error}
		}
		return nil, &BusyError{p.Error, p.Later}
	}
	return nil, errors.New(p.Error)
}
