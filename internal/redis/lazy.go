package redis

import (
	"context"

	"github.com/redis/rueidis"
)

// lazyClient is a connection that is made on its first use: rueidis connects
// when a client is made, and refuses to make one of a server that is down.
type lazyClient struct {
	// slot holds the client, nil when there is none yet. Whoever has taken it
	// out connects; others wait for it no longer than their context lives. It
	// stays empty once the lazyClient is closed.
	slot   chan rueidis.Client
	closed chan struct{}
}

func newLazyClient() *lazyClient {
	l := &lazyClient{slot: make(chan rueidis.Client, 1), closed: make(chan struct{})}
	l.slot <- nil
	return l
}

func (l *lazyClient) get(ctx context.Context, option rueidis.ClientOption) (rueidis.Client, error) {
	select {
	case c := <-l.slot:
		if c == nil {
			var err error
			if c, err = rueidis.NewClient(option); err != nil {
				l.slot <- nil
				return nil, err
			}
		}
		l.slot <- c
		return c, nil
	case <-l.closed:
		return nil, rueidis.ErrClosing
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// close waits for one who is connecting and closes the connection. It is
// called once.
func (l *lazyClient) close() {
	close(l.closed)
	if c := <-l.slot; c != nil {
		c.Close()
	}
}
