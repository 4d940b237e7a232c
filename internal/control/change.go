package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"holdfast/internal/supervise"
)

// maxRequest is the largest size of a request for a change, in bytes. A stack file with
// every default has some thousands.
const maxRequest = 8 << 20

// ErrInterrupted is the error of a change whose supervisor has ended before the change was
// complete. The next supervisor continues it.
var ErrInterrupted = errors.New("the supervisor is gone in the middle of the change; the next 'holdfast up' goes on with it")

// changeLine is one line of the answer to a change: an event, or at the end the result.
type changeLine struct {
	Event  *supervise.Event  `json:"event,omitempty"`
	Result *supervise.Result `json:"result,omitempty"`
}

// change carries out a change and streams its events. With plan=true in the query it only
// returns what the change would do.
func (a *api) change(w http.ResponseWriter, r *http.Request) {
	var req supervise.Request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&req); err != nil {
		writeJSON(w, http.StatusBadRequest, errorBody{Error: "the request is no JSON of a change: " + err.Error()})
		return
	}

	if r.URL.Query().Get("plan") == "true" {
		p, err := a.stack.Preview(r.Context(), req)
		writeResult(w, p, err)
		return
	}

	out := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	begun := false

	say := func(line changeLine) {
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			begun = true
		}
		out.Encode(line) // the client may be gone: the change goes on
		flush.Flush()
	}

	result, err := a.stack.Change(r.Context(), req, func(e supervise.Event) { say(changeLine{Event: &e}) })
	if err != nil {
		if !begun {
			writeResult(w, nil, err)
		}
		return
	}
	say(changeLine{Result: &result})
}

// Preview returns what a change would do.
func (c *Client) Preview(ctx context.Context, req supervise.Request) (supervise.ChangePlan, error) {
	var p supervise.ChangePlan
	body, err := c.send(ctx, "/v1/change?plan=true", req)
	if err != nil {
		return p, err
	}
	defer body.Close()
	return p, json.NewDecoder(body).Decode(&p)
}

// Change requests a change and calls tell with each of its events, until the change has
// ended. If ctx ends before, the change goes on nevertheless.
func (c *Client) Change(ctx context.Context, req supervise.Request, tell func(supervise.Event)) (supervise.Result, error) {
	body, err := c.send(ctx, "/v1/change", req)
	if err != nil {
		return supervise.Result{}, err
	}
	defer body.Close()
	for in := json.NewDecoder(body); ; {
		var line changeLine
		switch err := in.Decode(&line); {
		case ctx.Err() != nil:
			return supervise.Result{}, ctx.Err()
		case err != nil:
			return supervise.Result{}, ErrInterrupted
		case line.Result != nil:
			return *line.Result, nil
		case line.Event != nil:
			tell(*line.Event)
		}
	}
}
