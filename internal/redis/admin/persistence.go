package admin

import (
	"context"
	"fmt"
	"strings"
)

// Writes reports whether a Redis node can write to its append-only file, as it
// found at its last try (INFO persistence, aof_last_write_status). One that
// cannot refuses writes until it can.
func (a *Client) Writes(ctx context.Context) (bool, error) {
	text, err := a.info(ctx, "persistence")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(text) {
		if status, found := strings.CutPrefix(strings.TrimSpace(line), "aof_last_write_status:"); found {
			return status == "ok", nil
		}
	}
	return false, fmt.Errorf("INFO persistence at %s does not say whether it can write", a.conn.Address)
}
