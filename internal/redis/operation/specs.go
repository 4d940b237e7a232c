package operation

import (
	"context"
	"fmt"
	"sync/atomic"

	"holdfast/internal/clock"
	"holdfast/internal/redis/command"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/outcome"
)

// specs is what the master says of its commands, which it is asked once. It is safe for
// concurrent use.
type specs struct {
	cfg     config.Config
	monitor *discovery.Monitor
	table   atomic.Pointer[command.Table]
	loading chan struct{} // holds one while somebody loads
	waiting atomic.Int64  // how many wait for it
}

// Spec returns what Redis says of a command; nil: Redis knows none of that name. If Redis has
// not been asked yet, Spec waits for its answer, for Config.Hold at most. The error is an
// *Error.
func (c *specs) Spec(ctx context.Context, cmd command.Command) (*command.Spec, error) {
	t := c.table.Load()
	if t != nil {
		// Another master may be another version of Redis.
		if s := t.Lookup(cmd); s != nil || t.Master == c.monitor.State().Master {
			return s, nil
		}
	}
	fresh, err := c.load(ctx, t)
	if err != nil {
		if t != nil {
			return nil, nil // what was said before still holds
		}
		return nil, err
	}
	return fresh.Lookup(cmd), nil
}

// Known is Spec for a caller that does not wait. It also returns nil if Redis would have to be
// asked.
func (c *specs) Known(cmd command.Command) *command.Spec {
	if t := c.table.Load(); t != nil {
		return t.Lookup(cmd)
	}
	return nil
}

// load asks the master, once for all who wait. old is the table that the caller has seen.
func (c *specs) load(ctx context.Context, old *command.Table) (*command.Table, error) {
	defer c.waiting.Add(-1)
	if c.waiting.Add(1) > int64(c.cfg.MaxHeld) {
		return nil, &outcome.Error{Kind: outcome.Overloaded, Cause: outcome.ErrTooManyHeld}
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Hold)
	defer cancel()
	select {
	case c.loading <- struct{}{}:
		defer func() { <-c.loading }()
	case <-ctx.Done():
		return nil, &outcome.Error{Kind: outcome.NotExecuted, Cause: outcome.ErrNoMaster}
	}
	if t := c.table.Load(); t != nil && t != old {
		return t, nil
	}
	cause := outcome.ErrNoMaster
	for {
		s, err := c.monitor.Wait(ctx)
		if err != nil {
			return nil, &outcome.Error{Kind: outcome.NotExecuted, Cause: cause}
		}
		t, err := askCommands(ctx, c.cfg, s.Master)
		if err == nil {
			c.table.Store(t)
			return t, nil
		}
		if outcome.FateOf(err, false) == outcome.Rejected {
			return nil, &outcome.Error{Kind: outcome.Refused, Cause: fmt.Errorf("the Redis user %q may not run COMMAND, without which no command can be judged: %w", c.cfg.User(), outcome.RedisError(err.Error()))}
		}
		cause = err
		if !clock.Sleep(ctx, conn.DialPause) {
			return nil, &outcome.Error{Kind: outcome.NotExecuted, Cause: cause}
		}
	}
}

// askCommands asks a server for its command table (manual, COMMAND).
func askCommands(ctx context.Context, cfg config.Config, addr string) (*command.Table, error) {
	l := cfg.ConnTo(addr, conn.Probing)
	defer l.Stop()
	answer, err := l.Do(ctx, l.B().Arbitrary("COMMAND").Build()).ToArray()
	if err != nil {
		return nil, err
	}
	return command.NewTable(addr, answer), nil
}
