package control

import (
	"context"
	"errors"
	"net/http"
	"net/url"
)

// ErrNoHandOver reports that the supervisor is of a version that does not know how to
// leave its place to another program.
var ErrNoHandOver = errors.New("the supervisor cannot hand over to another version")

func (a *api) upgrade(w http.ResponseWriter, r *http.Request) {
	program := r.URL.Query().Get("program")
	if a.handOver == nil || program == "" {
		reply(w, http.StatusNotFound, problem{Error: ErrNoHandOver.Error()})
		return
	}
	answer(w, struct{}{}, a.handOver(program))
}

// Upgrade asks the supervisor to leave its place to another program, by its path. It
// is done when Status answers with that program.
func (c *Client) Upgrade(ctx context.Context, program string) error {
	err := c.post(ctx, "/v1/upgrade?program="+url.QueryEscape(program))
	if errors.As(err, new(*UnknownNodeError)) {
		return ErrNoHandOver
	}
	return err
}
