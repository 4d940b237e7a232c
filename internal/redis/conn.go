package redis

import (
	"context"
	"time"

	"holdfast/internal/redis/conn"
)

// options are how connections to the nodes are made.
func (c Config) options() conn.Options {
	o := conn.Options{Dial: c.Dial, TLS: c.TLS, Username: c.Username, Password: c.Password, DB: c.DB, Name: c.Name, MaxAnswer: c.MaxAnswer}
	if c.answers != nil {
		o.Ledger = c.answers.Ledger
	}
	return o
}

// connTo returns a client of the node at an address. It connects when it is first used.
func (c Config) connTo(addr string, kind conn.Kind) *conn.Client {
	return conn.New(c.options(), addr, kind)
}

// pause waits and answers true, or false when the context ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
