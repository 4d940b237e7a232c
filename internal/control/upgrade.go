package control

import (
	"context"
	"errors"
	"net/http"
	"net/url"
)

// ErrNoHandOver means that the supervisor cannot be replaced by another program: its
// version does not know how.
var ErrNoHandOver = errors.New("the supervisor cannot hand over to another version")

// UpgradePath is the path at which a supervisor, or the process of a host, is told to let
// another program replace it.
const UpgradePath = "/v1/upgrade"

// UpgradeHandler returns the handler of UpgradePath. HandOver returns at once, with an error if
// the program cannot take over. It is nil if no program ever can.
func UpgradeHandler(handOver func(program string) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		program := r.URL.Query().Get("program")
		if handOver == nil || program == "" {
			writeJSON(w, http.StatusNotFound, errorBody{Error: ErrNoHandOver.Error()})
			return
		}
		writeResult(w, struct{}{}, handOver(program))
	})
}

// Upgrade tells the supervisor to let the program at a path replace it, and does not wait.
// The upgrade is done when Status shows that program.
func (c *Client) Upgrade(ctx context.Context, program string) error {
	err := c.post(ctx, UpgradePath+"?program="+url.QueryEscape(program))
	if errors.As(err, new(*UnknownNodeError)) {
		return ErrNoHandOver
	}
	return err
}
