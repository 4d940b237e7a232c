package pubsub

import (
	"context"
	"errors"
	"strings"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/redis/command"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/outcome"
)

// HearCommands hears every command that the master carries out (MONITOR), until the context
// ends, also across a failover. hear is called by one goroutine, the caller's. Its first call,
// with "OK", says that it listens. It fails if there is no master within hold.
func HearCommands(ctx context.Context, hold time.Duration, o conn.Options, m *discovery.Monitor, hear func(line string)) error {
	patience, cancel := context.WithTimeout(ctx, hold)
	defer cancel()
	wait := patience // until it listens for the first time
	cause := outcome.ErrNoMaster
	for ctx.Err() == nil {
		s, err := m.Wait(wait)
		if err == nil {
			var listened bool
			listened, err = hearOnce(ctx, wait, o, m, s.Master, hear)
			if listened {
				wait = ctx
			}
			var refusal outcome.RedisError
			if errors.As(err, &refusal) && refusal.LoginRefused() {
				return &outcome.Error{Kind: outcome.Refused, Cause: refusal}
			}
			cause = err
		}
		if !clock.Sleep(wait, conn.DialPause) && ctx.Err() == nil {
			return &outcome.Error{Kind: outcome.NotExecuted, Cause: cause}
		}
	}
	return ctx.Err()
}

// hearOnce hears the commands of one master, until it is the master no longer or the connection
// ends. wait bounds the time until it listens; it is ctx if it has listened before. It reports
// whether it listened.
func hearOnce(ctx, wait context.Context, o conn.Options, m *discovery.Monitor, master string, hear func(string)) (bool, error) {
	raw, err := conn.DialRaw(wait, o, master)
	if err != nil {
		return false, err
	}
	defer raw.Close()
	watch, stop := context.WithCancel(ctx)
	defer stop()
	pinger := make(chan struct{})
	// The one writer. It ends with the connection, and ends it.
	go func() {
		defer close(pinger)
		defer raw.Close()
		tick := time.NewTicker(conn.PingInterval)
		defer tick.Stop()
		for err := raw.Send([]string{"MONITOR"}); err == nil; err = raw.Send([]string{"PING"}) {
			for waiting := true; waiting; {
				s, changed := m.Now()
				if s.Master != master {
					return
				}
				select {
				case <-tick.C:
					waiting = false
				case <-changed:
				case <-watch.Done():
					return
				}
			}
		}
	}()
	defer func() { stop(); <-pinger }()
	listened := false
	// Redis also shows our own signs of life, and what we do with our own keys, which have
	// the answers to clients in them.
	ours := " " + raw.LocalAddr().String() + "] \"PING\""
	for {
		f, err := raw.Read()
		switch {
		case err != nil:
			return listened, err
		case f.Kind == '-':
			return listened, outcome.RedisError(f.Text)
		case f.Text == "PONG", strings.Contains(f.Text, ours), strings.Contains(f.Text, quotedReserved):
		case !listened: // OK
			if listened = true; wait != ctx {
				hear(f.Text)
			}
		default:
			hear(f.Text)
		}
	}
}

// quotedReserved is how MONITOR shows that a word begins as our own keys do.
var quotedReserved = `"` + strings.ReplaceAll(command.ReservedPrefix, "\x00", `\x00`)
