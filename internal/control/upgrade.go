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

// UpgradePath is where a supervisor, or the process of a host, is asked to leave its place to
// another program.
const UpgradePath = "/v1/upgrade"

// UpgradeHandler answers there. HandOver returns at once, and its error says why that cannot
// be; nil: that can never be.
func UpgradeHandler(handOver func(program string) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		program := r.URL.Query().Get("program")
		if handOver == nil || program == "" {
			reply(w, http.StatusNotFound, problem{Error: ErrNoHandOver.Error()})
			return
		}
		answer(w, struct{}{}, handOver(program))
	})
}

// Upgrade asks the supervisor to leave its place to another program, by its path. It
// is done when Status answers with that program.
func (c *Client) Upgrade(ctx context.Context, program string) error {
	err := c.post(ctx, UpgradePath+"?program="+url.QueryEscape(program))
	if errors.As(err, new(*UnknownNodeError)) {
		return ErrNoHandOver
	}
	return err
}
