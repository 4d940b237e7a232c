package redis

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/meter"
)

// cache is what one connection to a master has read and may still serve:
// rueidis' CacheStore, which it keeps by what Redis tells it on that connection
// (manual, "Client-side caching in Redis"). The library's own would do, but
// for one thing: here a loop may look a value up by itself, which takes it a
// quarter of the time, and no memory.
//
// Its only command is GET.
type cache struct {
	mu      sync.RWMutex
	values  map[string]*cached      // nil: the connection has ended
	flights map[string]*cacheFlight // the questions that are under way
	// order has the values, those that are to go first in front: as they came,
	// but that one which was used since gets a second turn.
	order       *list.List
	size, limit int // in bytes
}

// cached is a key's value. It does not change.
type cached struct {
	until time.Time
	value rueidis.RedisMessage
	// text says that it is a string, and readable that it is one of UTF-8.
	text, readable bool
	used           atomic.Bool
	key            string
	place          *list.Element
}

// cachedSize is what a value takes beside the bytes of key and value, about:
// itself, its place in the order, and its share of a map that is half full at
// worst.
const cachedSize = 288

// largePart: what takes more than such a part of the memory is not kept. It would
// take the place of too many others, and everybody waits while they go.
const largePart = 64

// mostTurns bounds how many values get a second turn for the sake of one that is
// new: everybody waits meanwhile.
const mostTurns = 64

func newCache(limit int) *cache {
	c := &cache{limit: limit, flights: map[string]*cacheFlight{}}
	c.empty()
	return c
}

// empty forgets all values at once: loops wait meanwhile.
func (c *cache) empty() { c.values, c.order, c.size = map[string]*cached{}, list.New(), 0 }

// look is the value of a key; nil: it is not there.
func (c *cache) look(key string, now time.Time) *cached {
	c.mu.RLock()
	v := c.values[key]
	c.mu.RUnlock()
	if v == nil || !now.Before(v.until) {
		return nil
	}
	if !v.used.Load() { // so that the memory stays every core's
		v.used.Store(true)
	}
	return v
}

// Flight is rueidis.CacheStore's.
func (c *cache) Flight(key, _ string, ttl time.Duration, now time.Time) (rueidis.RedisMessage, rueidis.CacheEntry) {
	if v := c.look(key, now); v != nil {
		return v.value, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		return rueidis.RedisMessage{}, nil // it is asked for, and not kept
	}
	if f := c.flights[key]; f != nil {
		return rueidis.RedisMessage{}, f
	}
	if v := c.values[key]; v != nil {
		if now.Before(v.until) { // it came meanwhile
			return v.value, nil
		}
		c.remove(v)
	}
	c.flights[key] = &cacheFlight{until: now.Add(ttl), landed: make(chan struct{})}
	return rueidis.RedisMessage{}, nil
}

// Update is rueidis.CacheStore's: the value has come.
func (c *cache) Update(key, _ string, value rueidis.RedisMessage) (until int64) {
	v := &cached{key: key, value: value, text: value.IsString()}
	dropped, _ := meter.IsCut(&value)
	keep := v.size() <= c.limit/largePart && !dropped
	if keep {
		text, _ := value.ToString()
		v.readable = utf8.ValidString(text)
	}
	left := value.CachePTTL()
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.flights[key]
	if f == nil {
		return 0
	}
	delete(c.flights, key)
	v.until = f.until
	if left >= 0 { // else it never expires at Redis
		if at := now.Add(time.Duration(left) * time.Millisecond); at.Before(v.until) {
			v.until = at
		}
	}
	f.land(value, nil)
	if keep {
		c.values[key], v.place = v, c.order.PushBack(v)
		c.size += v.size()
		c.trim()
	}
	return v.until.UnixMilli()
}

// Cancel is rueidis.CacheStore's: the value does not come.
func (c *cache) Cancel(key, _ string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[key]; f != nil {
		f.land(rueidis.RedisMessage{}, err)
		delete(c.flights, key)
	}
}

// Delete is rueidis.CacheStore's: the values of these keys have changed, or all
// may have when keys is nil. What is under way is not meant: it is answered
// after this.
func (c *cache) Delete(keys []rueidis.RedisMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if keys == nil && c.values != nil {
		c.empty()
	}
	for i := range keys {
		key, _ := keys[i].ToString()
		if v := c.values[key]; v != nil {
			c.remove(v)
		}
	}
}

// Close is rueidis.CacheStore's: the connection has ended, and nobody tells of
// changes any more.
func (c *cache) Close(err error) {
	c.mu.Lock()
	flights := c.flights
	c.values, c.order, c.size, c.flights = nil, nil, 0, nil
	c.mu.Unlock()
	for _, f := range flights {
		f.land(rueidis.RedisMessage{}, err)
	}
}

// remove takes a value out.
func (c *cache) remove(v *cached) {
	delete(c.values, v.key)
	c.order.Remove(v.place)
	c.size -= v.size()
}

// trim makes room.
func (c *cache) trim() {
	for turns := 0; c.size > c.limit; {
		e := c.order.Front()
		v := e.Value.(*cached) // there is one: none is larger than all may be
		if v.used.Swap(false) && turns < mostTurns {
			turns++
			c.order.MoveToBack(e)
			continue
		}
		c.remove(v)
	}
}

// size is how much memory a value takes, about, in bytes.
func (v *cached) size() int {
	text, _ := v.value.ToString() // of an error, too
	return cachedSize + len(v.key) + len(text)
}

// cacheFlight is a question that several may wait for.
type cacheFlight struct {
	until  time.Time     // the value is kept at most
	landed chan struct{} // closed when the answer is there
	value  rueidis.RedisMessage
	err    error
}

func (f *cacheFlight) land(value rueidis.RedisMessage, err error) {
	f.value, f.err = value, err
	close(f.landed)
}

// Wait is rueidis.CacheEntry's.
func (f *cacheFlight) Wait(ctx context.Context) (rueidis.RedisMessage, error) {
	select {
	case <-ctx.Done():
		return rueidis.RedisMessage{}, ctx.Err()
	case <-f.landed:
		return f.value, f.err
	}
}
