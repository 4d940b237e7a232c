package redis

import (
	"sync"

	"github.com/redis/rueidis"
)

// lazyClient is a connection that is made on its first use: rueidis connects
// when a client is made, and refuses to make one of a server that is down.
type lazyClient struct {
	mu     sync.Mutex
	client rueidis.Client
	closed bool
}

func (l *lazyClient) get(option rueidis.ClientOption) (rueidis.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, rueidis.ErrClosing
	}
	if l.client == nil {
		c, err := rueidis.NewClient(option)
		if err != nil {
			return nil, err
		}
		l.client = c
	}
	return l.client, nil
}

func (l *lazyClient) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.client != nil {
		l.client.Close()
		l.client = nil
	}
}
