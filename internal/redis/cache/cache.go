// Package cache keeps the values that one connection to a master has read, in memory, for as
// long as Redis says that they have not changed. How long they are trusted without a word
// from Redis, its callers decide.
package cache

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

// Cache is what one connection to a master has read and may still serve. It is a CacheStore
// of the client library, which keeps it right by what Redis tells on that connection (manual,
// "Client-side caching in Redis"). The library has a store of its own. This one lets an event
// loop look a value up by itself, in a quarter of the time and without an allocation.
//
// The only command is GET. A Cache is safe for concurrent use.
type Cache struct {
	mu      sync.RWMutex
	values  map[string]*Value       // nil: the connection has ended
	flights map[string]*cacheFlight // the questions under way, by key
	// order has the values in the order in which they came; the first one is evicted next.
	// A value that was used since it came, or since its last turn, gets a second turn.
	order       *list.List
	size, limit int // in bytes
}

// Value is a key's value. It does not change.
type Value struct {
	until time.Time
	Reply rueidis.RedisMessage
	// IsText is true for a string, and Readable for one of UTF-8.
	IsText, Readable bool
	used             atomic.Bool
	key              string
	place            *list.Element
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

// New returns a cache of so many bytes.
func New(limit int) *Cache {
	c := &Cache{limit: limit, flights: map[string]*cacheFlight{}}
	c.empty()
	return c
}

// empty forgets all values at once: loops wait meanwhile.
func (c *Cache) empty() { c.values, c.order, c.size = map[string]*Value{}, list.New(), 0 }

// Look returns the value of a key; nil if it is not there.
func (c *Cache) Look(key string, now time.Time) *Value {
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
func (c *Cache) Flight(key, _ string, ttl time.Duration, now time.Time) (rueidis.RedisMessage, rueidis.CacheEntry) {
	if v := c.Look(key, now); v != nil {
		return v.Reply, nil
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
			return v.Reply, nil
		}
		c.remove(v)
	}
	c.flights[key] = &cacheFlight{until: now.Add(ttl), landed: make(chan struct{})}
	return rueidis.RedisMessage{}, nil
}

// Update is rueidis.CacheStore's: the value has come.
func (c *Cache) Update(key, _ string, value rueidis.RedisMessage) (until int64) {
	v := &Value{key: key, Reply: value, IsText: value.IsString()}
	dropped, _ := meter.IsCut(&value)
	keep := v.size() <= c.limit/largePart && !dropped
	if keep {
		text, _ := value.ToString()
		v.Readable = utf8.ValidString(text)
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
func (c *Cache) Cancel(key, _ string, err error) {
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
func (c *Cache) Delete(keys []rueidis.RedisMessage) {
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
func (c *Cache) Close(err error) {
	c.mu.Lock()
	flights := c.flights
	c.values, c.order, c.size, c.flights = nil, nil, 0, nil
	c.mu.Unlock()
	for _, f := range flights {
		f.land(rueidis.RedisMessage{}, err)
	}
}

// remove takes a value out.
func (c *Cache) remove(v *Value) {
	delete(c.values, v.key)
	c.order.Remove(v.place)
	c.size -= v.size()
}

// trim makes room.
func (c *Cache) trim() {
	for turns := 0; c.size > c.limit; {
		e := c.order.Front()
		v := e.Value.(*Value) // there is one: none is larger than all may be
		if v.used.Swap(false) && turns < mostTurns {
			turns++
			c.order.MoveToBack(e)
			continue
		}
		c.remove(v)
	}
}

// size is how much memory a value takes, about, in bytes.
func (v *Value) size() int {
	text, _ := v.Reply.ToString() // of an error, too
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
