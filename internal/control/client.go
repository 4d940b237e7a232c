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

	"holdfast/internal/quote"
	"holdfast/internal/supervise"
)

// ErrNoSupervisor says that nobody answers on the control socket.
var ErrNoSupervisor = errors.New("no supervisor runs")

// UnknownNodeError says that the stack has no such node.
type UnknownNodeError struct{ msg string }

func (e *UnknownNodeError) Error() string { return e.msg }

// Client talks to the supervisor of a stack. It is safe for concurrent use.
type Client struct {
	http *http.Client
	// waits is told what is waited for; nil: nothing is. See Patient.
	waits func(why string)
}

// NewClient makes a client for the stack of that state directory. It does not
// connect.
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
				return nil, err // there may be one: nobody knows
			}
			return nil, ErrNoSupervisor
		},
	}}}
}

const (
	// patience is how long a Patient client waits: for hosts that choose another one to
	// lead, and for its supervisor to find the nodes.
	patience = 15 * time.Second
	// quiet is how long it waits before it tells.
	quiet = time.Second
	// askAgain is the time between two questions.
	askAgain = 200 * time.Millisecond
)

// Patient returns a client that asks again, for 15 s at most, while the answer is a
// *BusyError that is Later: while another host begins to lead, and while the supervisor of
// one begins. Tell is called once for each question that takes more than a second of that.
func (c *Client) Patient(tell func(why string)) *Client { return &Client{c.http, tell} }

// Status asks for the stack's status.
func (c *Client) Status(ctx context.Context) (supervise.Status, error) {
	var s supervise.Status
	body, err := c.do(ctx, http.MethodGet, "/v1/status")
	if err != nil {
		return s, err
	}
	defer body.Close()
	return s, json.NewDecoder(body).Decode(&s)
}

// Do asks for an action on a node and waits until its goal is reached.
func (c *Client) Do(ctx context.Context, node string, action supervise.Action) error {
	return c.post(ctx, "/v1/nodes/"+url.PathEscape(node)+"/"+string(action))
}

// Switchover asks for another redis node to become the master; to may be empty.
func (c *Client) Switchover(ctx context.Context, to string) (supervise.Switched, error) {
	var done supervise.Switched
	body, err := c.do(ctx, http.MethodPost, "/v1/switchover?to="+url.QueryEscape(to))
	if err != nil {
		return done, err
	}
	defer body.Close()
	return done, json.NewDecoder(body).Decode(&done)
}

// NoteBackup tells how a backup went that this host has taken.
func (c *Client) NoteBackup(ctx context.Context, b supervise.BackupState) error {
	body, err := c.send(ctx, "/v1/backup", b)
	if err != nil {
		return err
	}
	return body.Close()
}

// Rest asks for a host to go down for maintenance, and waits until it has. Anyway is for one
// whose absence ends something.
func (c *Client) Rest(ctx context.Context, host string, anyway bool) error {
	return c.post(ctx, fmt.Sprintf("/v1/rest?host=%s&anyway=%t", url.QueryEscape(host), anyway))
}

// Down asks for the stack to be taken down. It is when Status answers
// ErrNoSupervisor.
func (c *Client) Down(ctx context.Context, purge bool) error {
	return c.post(ctx, fmt.Sprintf("/v1/down?purge=%t", purge))
}

// Events yields the status, then each change, until the supervisor is gone,
// the subscriber is too slow, or ctx ends.
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

// Found asks for a stack that is on this machine alone to be one of several hosts, with this
// one as the first. It is when Hosts answers.
func (c *Client) Found(ctx context.Context, h Founding) error {
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

// UsageError reports that what was asked for names something that is not there.
type UsageError struct{ msg string }

func (e *UsageError) Error() string { return e.msg }

// BusyError reports that nobody can do now what was asked for: no host leads, or the one
// that does is not ready. Later is true where nothing of it was done, so that it can be asked
// for again. Else it may have been done.
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

// ask asks, and again where a Patient client may.
func (c *Client) ask(ctx context.Context, method, path string, content []byte) (io.ReadCloser, error) {
	told := false
	for began := time.Now(); ; {
		body, err := c.askOnce(ctx, method, path, bytes.NewReader(content))
		busy := new(BusyError)
		if c.waits == nil || !errors.As(err, &busy) || !busy.Later || time.Since(began) > patience {
			return body, err
		}
		if !told && time.Since(began) > quiet {
			told = true
			c.waits(busy.Why)
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
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
		// Nobody there, or gone in the midst of it.
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
	var p problem
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
