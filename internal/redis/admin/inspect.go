package admin

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/redis/resp"
)

// What somebody who examines a server asks it, and what changes nothing.

// Info returns INFO of a Redis node or Sentinel, all of its usual sections, by name.
func (a *Client) Info(ctx context.Context) (map[string]string, error) {
	text, err := a.info(ctx, "default")
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			values[name] = value
		}
	}
	return values, nil
}

// Settings returns all settings of a Redis node, by name (CONFIG GET *).
func (a *Client) Settings(ctx context.Context) (map[string]string, error) {
	r, err := a.do(ctx, "CONFIG", "GET", "*")
	if err != nil {
		return nil, err
	}
	values, err := r.AsStrMap()
	if err != nil {
		return nil, fmt.Errorf("CONFIG GET at %s: %w", a.conn.Address, err)
	}
	return values, nil
}

// Watching is how a Sentinel watches a master.
type Watching struct {
	Quorum int
	// DownAfter and Timeout are down-after-milliseconds and failover-timeout.
	DownAfter, Timeout time.Duration
	// Unable is why it could not fail the master over now (SENTINEL CKQUORUM);
	// empty: it could.
	Unable string
}

// Watching asks a Sentinel how it watches the master of that name.
func (a *Client) Watching(ctx context.Context, master string) (Watching, error) {
	r, err := a.do(ctx, "SENTINEL", "MASTER", master)
	if err != nil {
		return Watching{}, err
	}
	about, err := r.AsStrMap()
	if err != nil {
		return Watching{}, fmt.Errorf("SENTINEL MASTER at %s: %w", a.conn.Address, err)
	}
	milliseconds := func(name string) time.Duration {
		n, _ := strconv.Atoi(about[name])
		return time.Duration(n) * time.Millisecond
	}
	w := Watching{DownAfter: milliseconds("down-after-milliseconds"), Timeout: milliseconds("failover-timeout")}
	w.Quorum, _ = strconv.Atoi(about["quorum"])
	if _, err := a.do(ctx, "SENTINEL", "CKQUORUM", master); Spoke(err) {
		w.Unable = err.Error()
	} else if err != nil {
		return Watching{}, err
	}
	return w, nil
}

// Clock returns the time of day at a node (manual, TIME).
func (a *Client) Clock(ctx context.Context) (time.Time, error) {
	r, err := a.do(ctx, "TIME")
	if err != nil {
		return time.Time{}, err
	}
	words, err := r.AsStrSlice()
	if err != nil || len(words) != 2 {
		return time.Time{}, fmt.Errorf("TIME at %s: unexpected answer", a.conn.Address)
	}
	return time.Unix(resp.Int(words[0]), resp.Int(words[1])*int64(time.Microsecond)), nil
}
