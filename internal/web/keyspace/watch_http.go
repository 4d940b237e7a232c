package keyspace

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
	"holdfast/internal/web/response"
	"holdfast/internal/web/sse"
)

// maxWait bounds how long a long poll is held. HAProxy waits longer for a response (timeout server,
// 1 min).
const maxWait = 50 * time.Second

// retryRead is the time between two attempts to read what changed, while there is no master.
const retryRead = 500 * time.Millisecond

// readMaster reads a key for watchers. The state may be kept: a long value is left out of it.
func (k *Handler) readMaster(key string) (keyState, error) {
	now, err := k.read(context.Background(), &redis.Request{Read: redis.ReadMaster}, key)
	now.keep()
	return now, err
}

// waitForKey sends a key as soon as it differs from what the client has: one of the tags of
// If-None-Match, or, without that header, no key at all. When the time is over or the node is about
// to end, it answers like a GET that does not wait.
func (k *Handler) waitForKey(ctx *fasthttp.RequestCtx, who *token.Rights, key string, given conditions, text string) error {
	limit, ok := parseDuration(text)
	if !ok || limit < 0 {
		return response.BadRequest("The time to wait is 30s, 1500ms or a number of seconds such as 30.")
	}

	p, err := k.Places.Take(ctx, who, 1)
	if err != nil {
		return err
	}
	defer p.Leave()
	w, err := k.hub.watch(key)
	if err != nil {
		return err
	}
	defer w.leave()

	timer := time.NewTimer(min(limit, maxWait))
	defer timer.Stop()
	for {
		now, err := w.now(k.readMaster)
		if err != nil {
			return err
		}
		same := now.holds == "none"
		if given.noneMatch.given {
			same = given.noneMatch.among(&now)
		}
		if !same {
			return k.answerKept(ctx, key, &now, given)
		}
		select {
		case <-w.wake:
			continue
		case <-timer.C:
		case <-k.Streams.Done():
		}
		return k.answerKept(ctx, key, &now, given)
	}
}

// answerKept sends a key that was read for all who watch it. It reads the key again where the value
// was left out.
func (k *Handler) answerKept(ctx *fasthttp.RequestCtx, key string, now *keyState, given conditions) error {
	if now.found() && len(now.value) < now.size {
		fresh, err := k.read(context.Background(), &redis.Request{Read: redis.ReadMaster}, key)
		if err != nil {
			return err
		}
		defer fresh.release()
		now = &fresh
	}
	return k.answerKey(ctx, now, given)
}

// ChangeEvent is the data of the events put and delete.
type ChangeEvent struct {
	Key  string  `json:"key"`
	ETag string  `json:"etag,omitempty"`
	Type string  `json:"type,omitempty"`
	Size *int    `json:"size,omitempty"` // bytes
	TTL  float64 `json:"ttl,omitempty"`  // seconds
	// Holds is another Redis type that the key has now: then it is no resource.
	Holds string `json:"holds,omitempty"`
}

// event returns the event for what a key holds.
func (r *keyState) event(key string) (name string, data ChangeEvent) {
	data = ChangeEvent{Key: key}
	if !r.found() {
		if r.holds != "none" {
			data.Holds = r.holds
		}
		return "delete", data
	}
	size := r.size
	data.ETag, data.Type, data.Size = r.etag(), r.contentType, &size
	if r.ttl >= 0 {
		data.TTL = math.Max(r.ttl.Seconds(), 0.001)
	}
	return "put", data
}

// watchKey streams what a key holds: first what it holds now, then each change of its entity tag.
// Of changes in quick succession only the last one is sent.
func (k *Handler) watchKey(ctx *fasthttp.RequestCtx, who *token.Rights, key string) error {
	encode, err := keyEncoding(ctx.URI().QueryString())
	if err != nil {
		return err
	}
	name, ok := encode(key)
	if !ok {
		return errBinaryKey
	}

	p, err := k.Places.Take(ctx, who, 1)
	if err != nil {
		return err
	}
	w, err := k.hub.watch(key)
	if err != nil {
		p.Leave()
		return err
	}

	now, err := w.now(k.readMaster)
	if err == nil && !now.found() && now.holds != "none" {
		err = errOtherType(now.holds)
	}
	if err != nil {
		w.leave()
		p.Leave()
		return err
	}

	k.Streams.Serve(ctx, p, func(ctx context.Context, f *sse.Feed) error {
		defer w.leave()
		if err := sendState(f, name, &now); err != nil {
			return err
		}
		var again <-chan time.Time
		for {
			select {
			case <-w.wake:
			case <-again:
			case <-ctx.Done():
				return nil
			}
			again = nil
			next, err := w.now(k.readMaster)
			if err != nil { // there has been no master for long; what the key holds is sent later
				again = time.After(retryRead)
				continue
			}
			if next.holds == now.holds && next.tag == now.tag {
				continue
			}
			now = next
			if err := sendState(f, name, &now); err != nil {
				return err
			}
		}
	})
	return nil
}

var errBinaryKey = response.BadRequest("The key is not UTF-8, which JSON cannot say; ask with encoding=base64.")

// watchPrefix streams the changes of keys with a prefix. The event reset means that any of them may
// have changed. It comes first, so a client that lists the keys after it misses nothing.
func (k *Handler) watchPrefix(ctx *fasthttp.RequestCtx, who *token.Rights, prefix string, encode func(string) (string, bool)) error {
	mine, err := k.Places.Take(ctx, who, 1)
	if err != nil {
		return err
	}

	p, err := k.hub.watchPrefix(prefix)
	if err != nil {
		mine.Leave()
		return err
	}

	k.Streams.Serve(ctx, mine, func(ctx context.Context, f *sse.Feed) error {
		defer p.leave()
		var again <-chan time.Time
		var todo []string
		for {
			select {
			case <-p.wake:
			case <-again:
			case <-ctx.Done():
				return nil
			}
			again = nil
			reset, keys := p.take()
			if reset {
				todo = nil
				f.Event("", "reset", "{}")
			}
			if todo = append(todo, keys...); len(todo) > 2*maxPending { // there has been no master for long
				todo = nil
				p.restart()
				continue
			}
			for ; len(todo) > 0 && ctx.Err() == nil; todo = todo[1:] {
				text, ok := encode(todo[0])
				if !ok {
					continue
				}
				now, err := k.readMaster(todo[0])
				if err != nil {
					again = time.After(retryRead)
					break
				}
				if err := sendState(f, text, &now); err != nil {
					return err
				}
			}
		}
	})
	return nil
}

// sendState adds the event for what a key holds to a feed.
func sendState(f *sse.Feed, key string, now *keyState) error {
	name, data := now.event(key)
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	f.Event("", name, string(text))
	return nil
}
