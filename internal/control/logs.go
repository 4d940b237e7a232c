package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/host"
	"holdfast/internal/logs"
)

// This file is how the commands on one host read the logs of another host.

// LogLine is one line of the answer of LogsPath.
type LogLine struct {
	Node    string    `json:"node,omitempty"`
	Time    time.Time `json:"time,omitzero"`
	Stamped bool      `json:"stamped,omitempty"`
	Line    []byte    `json:"line,omitempty"` // as the node wrote it; it may not be UTF-8
	// Reached is true for a line without text that tells that all earlier lines were sent.
	Reached bool `json:"reached,omitempty"`
}

// LogsPath is the path of a host's logs, below host.AtPath and the host's name.
const LogsPath = "/logs"

const (
	logsEvery = 200 * time.Millisecond
	// logsAlive is how often a host sends a Reached line while it follows its logs, to show
	// that it is alive.
	logsAlive = 5 * time.Second
)

// LogsHandler returns the handler of LogsPath, for the nodes of a state directory.
func LogsHandler(state string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, follow, err := readQuery(r.URL.Query())
		if err != nil {
			writeJSON(w, http.StatusBadRequest, errorBody{Error: err.Error()})
			return
		}
		m := logs.NewMerged(state, q)
		defer m.Close()
		if _, err := m.Find(); err != nil {
			writeJSON(w, http.StatusConflict, errorBody{Error: err.Error()})
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		_ = sendLogs(r.Context(), w, m, follow) // the client may be gone
	})
}

func sendLogs(ctx context.Context, w http.ResponseWriter, m *logs.Merged, follow bool) error {
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	for said := (time.Time{}); ; {
		for ctx.Err() == nil {
			e, there, err := m.Next()
			if err != nil {
				return err
			}
			if !there {
				break
			}
			if err := out.Encode(LogLine{Node: e.Node, Time: e.Time, Stamped: e.Stamped, Line: []byte(e.Line)}); err != nil {
				return err
			}
		}

		if time.Since(said) > logsAlive {
			said = time.Now()
			if err := out.Encode(LogLine{Reached: true}); err != nil {
				return err
			}
		}

		if err := flush.Flush(); err != nil || !follow {
			return err
		}

		if !clock.Sleep(ctx, logsEvery) {
			return ctx.Err()
		}
		if _, err := m.Find(); err != nil {
			return err
		}
	}
}

func readQuery(values url.Values) (q logs.Query, follow bool, err error) {
	q.Name = values.Get("name")
	follow = values.Get("follow") == "true"
	if text := values.Get("lines"); text != "" {
		if q.Lines, err = strconv.Atoi(text); err != nil {
			return q, false, errors.New("lines is no number")
		}
	}
	if text := values.Get("since"); text != "" {
		if q.Since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return q, false, errors.New("since is no time")
		}
	}
	return q, follow, nil
}

// Logs reads the logs of a host of several, and calls take with each line. It returns when the
// host has sent all lines; with follow it goes on until ctx ends or the connection breaks. A
// Reached line has no text.
func (c *Client) Logs(ctx context.Context, at string, q logs.Query, follow bool, take func(LogLine)) error {
	values := url.Values{"name": {q.Name}, "lines": {strconv.Itoa(q.Lines)}, "follow": {strconv.FormatBool(follow)}}
	if !q.Since.IsZero() {
		values.Set("since", q.Since.Format(time.RFC3339Nano))
	}
	body, err := c.do(ctx, http.MethodGet, host.AtPath+url.PathEscape(at)+LogsPath+"?"+values.Encode())
	if err != nil {
		return err
	}
	defer body.Close()
	for in := json.NewDecoder(body); ; {
		var line LogLine
		if err := in.Decode(&line); err != nil {
			if errors.Is(err, io.EOF) && !follow {
				return nil
			}
			return err
		}
		take(line)
	}
}
