package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/history"
)

const (
	readers      = 8   // read everything back concurrently
	removeAtOnce = 500 // keys in one request
	anotherTry   = 100 * time.Millisecond
)

// ReadBack reads every key from the master, repeatedly until the key is answered or the context
// ends. Operations returns the reads, marked as Final. The error names keys that could not be read.
func (l *Load) ReadBack(ctx context.Context) error {
	keys := make(chan typedKey)
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		unread []string
		last   string // the last error
	)
	for n := range readers {
		c := l.newClient(l.cfg.Clients + n)
		wg.Go(func() {
			c.connect(ctx)
			defer c.conn.close()
			for k := range keys {
				op := c.readBack(ctx, k)
				mu.Lock()
				l.rest = append(l.rest, op)
				if op.Outcome != history.OK {
					unread, last = append(unread, op.Key), op.Error
				}
				mu.Unlock()
			}
		})
	}
	all := l.keys()
	for _, k := range all {
		keys <- k
	}
	close(keys)
	wg.Wait()
	if len(unread) > 0 {
		return fmt.Errorf("read everything back: %d of %d keys gave no answer, such as %s (%s)", len(unread), len(all), unread[0], last)
	}
	return nil
}

func (c *client) readBack(ctx context.Context, k typedKey) history.Operation {
	op := history.Operation{
		Client: c.number, Kind: k.kind, Key: k.key, Verb: history.Read, From: fromMaster, Final: true, Due: c.load.now(),
	}
	tries, told := 0, ""
	for {
		c.request.header = append(c.request.header[:0], c.load.header...)
		c.request.body = c.request.body[:0]
		c.read(&op)
		op.Tries = 0 // makes try set Start again: it becomes that of the answered try
		c.send(&op)
		tries += op.Tries
		if op.Outcome == history.OK {
			op.Tries = tries
			return op
		}
		// The error of a try that the context interrupted says less than the one before it.
		if told == "" || ctx.Err() == nil {
			told = op.Error
		}
		if !clock.Sleep(ctx, anotherTry) {
			op.Tries, op.Error = tries, told
			return op
		}
	}
}

// Remove removes the keys of the load, and no others. It tries again until the context ends. A
// write of unknown outcome that is carried out later brings its key back.
func (l *Load) Remove(ctx context.Context) error {
	c := l.newClient(l.cfg.Clients)
	c.connect(ctx)
	defer c.conn.close()
	for all := l.keys(); len(all) > 0; {
		some := all[:min(len(all), removeAtOnce)]
		var told error
		for {
			err := c.remove(some)
			if err == nil {
				break
			}
			// The error of a try that the context interrupted says less than the one before it.
			if told == nil || ctx.Err() == nil {
				told = err
			}
			if !clock.Sleep(ctx, anotherTry) {
				return fmt.Errorf("remove the %d keys that begin with %s: %w", len(all), l.cfg.Prefix, told)
			}
		}
		all = all[len(some):]
	}
	return nil
}

func (c *client) remove(keys []typedKey) error {
	commands := make([][]string, len(keys))
	for i, k := range keys {
		commands[i] = []string{"DEL", k.key}
	}
	body, err := json.Marshal(commands)
	if err != nil {
		return err
	}
	q := request{method: http.MethodPost, path: "/pipeline", header: c.load.header, body: body}
	if _, err := c.conn.exchange(&q, time.Now().Add(c.load.cfg.Timeout)); err != nil {
		return err
	}
	answer := &c.conn.answer
	if answer.StatusCode() != http.StatusOK || bytes.Contains(answer.Body(), []byte(`"error"`)) {
		return fmt.Errorf("%d: %s", answer.StatusCode(), short(strings.TrimSpace(string(answer.Body()))))
	}
	return nil
}
