package redis

import (
	"context"
	"fmt"
	"sync/atomic"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/moment"
	"holdfast/internal/redis/outcome"
)

// commandSource is the table and who may load it.
type commandSource struct {
	table   atomic.Pointer[command.Table]
	loading chan struct{} // holds one while somebody loads
	waiting atomic.Int64  // who waits for it
}

func newCommandSource() commandSource { return commandSource{loading: make(chan struct{}, 1)} }

// Spec is what Redis says of a command; nil when it knows none of that name.
// It waits for Redis to say it when it has not yet, no longer than
// Config.Hold; the error is an *Error.
func (c *Client) Spec(ctx context.Context, cmd Command) (*Spec, error) {
	t := c.commands.table.Load()
	if t != nil {
		// Another master may be another version of Redis.
		if s := t.Lookup(cmd); s != nil || t.Master == c.Master() {
			return s, nil
		}
	}
	fresh, err := c.loadCommands(ctx, t)
	if err != nil {
		if t != nil {
			return nil, nil // what was said before still holds
		}
		return nil, err
	}
	return fresh.Lookup(cmd), nil
}

// loadCommands asks the master, once for all who wait; old is what the caller
// has seen.
func (c *Client) loadCommands(ctx context.Context, old *command.Table) (*command.Table, error) {
	defer c.commands.waiting.Add(-1)
	if c.commands.waiting.Add(1) > int64(c.cfg.MaxHeld) {
		return nil, &Error{Kind: Overloaded, Cause: outcome.ErrTooManyHeld}
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Hold)
	defer cancel()
	select {
	case c.commands.loading <- struct{}{}:
		defer func() { <-c.commands.loading }()
	case <-ctx.Done():
		return nil, &Error{Kind: NotExecuted, Cause: outcome.ErrNoMaster}
	}
	if t := c.commands.table.Load(); t != nil && t != old {
		return t, nil
	}
	cause := outcome.ErrNoMaster
	for {
		s, err := c.monitor.Wait(ctx)
		if err != nil {
			return nil, &Error{Kind: NotExecuted, Cause: cause}
		}
		t, err := askCommands(ctx, c.cfg, s.Master)
		if err == nil {
			c.commands.table.Store(t)
			return t, nil
		}
		if outcome.FateOf(err, false) == outcome.Rejected {
			return nil, &Error{Kind: Refused, Cause: fmt.Errorf("the Redis user %q may not run COMMAND, without which no command can be judged: %w", c.cfg.user(), outcome.RedisError(err.Error()))}
		}
		cause = err
		if !moment.Sleep(ctx, conn.DialPause) {
			return nil, &Error{Kind: NotExecuted, Cause: cause}
		}
	}
}

// user is whom Redis knows us as.
func (c Config) user() string {
	if c.Username == "" {
		return "default"
	}
	return c.Username
}

// askCommands asks a server for its command table (manual, COMMAND).
func askCommands(ctx context.Context, cfg Config, addr string) (*command.Table, error) {
	l := cfg.connTo(addr, conn.Probing)
	defer l.Stop()
	answer, err := l.Do(ctx, l.B().Arbitrary("COMMAND").Build()).ToArray()
	if err != nil {
		return nil, err
	}
	return command.NewTable(addr, answer), nil
}
