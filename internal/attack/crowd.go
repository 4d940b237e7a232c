package attack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/clock"
)

// Tally counts the outcomes of requests. It is safe for concurrent use.
type Tally struct {
	mu       sync.Mutex
	sent     int
	statuses map[int]int // 0: no answer came
	left     int         // ended by the client: it left, or the attack ended
	bytes    int64
	sample   map[int]string // the beginning of one answer for each status
}

// NewTally returns an empty tally.
func NewTally() *Tally { return &Tally{statuses: map[int]int{}, sample: map[int]string{}} }

// Add adds one answer. ended tells that the attack was over when it came.
func (t *Tally) Add(a Answer, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent++
	t.bytes += a.Bytes
	if a.Err != nil && (ended || errors.Is(a.Err, errLeft)) {
		t.left++
		return
	}
	t.statuses[a.Status]++
	if _, there := t.sample[a.Status]; !there && a.Status != 0 {
		t.sample[a.Status] = string(a.Body[:min(len(a.Body), 100)])
	}
}

// Sent returns the number of requests.
func (t *Tally) Sent() int { t.mu.Lock(); defer t.mu.Unlock(); return t.sent }

// Bytes returns how many bytes of answers were read.
func (t *Tally) Bytes() int64 { t.mu.Lock(); defer t.mu.Unlock(); return t.bytes }

// Refused returns how many requests were answered with an error.
func (t *Tally) Refused() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for status, count := range t.statuses {
		if status >= 400 {
			n += count
		}
	}
	return n
}

// String formats the tally: "12 sent: 3 answered 200, 2 without an answer".
func (t *Tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(t.statuses)) {
		what := "without an answer"
		if status != 0 {
			what = "answered " + strconv.Itoa(status)
		}
		parts = append(parts, fmt.Sprintf("%d %s", t.statuses[status], what))
	}
	if t.left > 0 {
		parts = append(parts, fmt.Sprintf("%d left by their client", t.left))
	}
	if len(parts) == 0 {
		return fmt.Sprintf("%d sent", t.sent)
	}
	return fmt.Sprintf("%d sent: %s", t.sent, strings.Join(parts, ", "))
}

// Repeat sends up to most requests, one after another, until the context ends. Each begins at least
// pause after the beginning of the one before it.
func (c *Client) Repeat(ctx context.Context, most int, pause time.Duration, t *Tally, next func(i int) Request) {
	for i := 0; i < most && ctx.Err() == nil; i++ {
		began := time.Now()
		a := c.Do(ctx, next(i))
		t.Add(a, ctx.Err() != nil)
		if rest := pause - time.Since(began); rest > 0 && !clock.Sleep(ctx, rest) {
			return
		}
	}
}

// Held is a set of connections that are kept open. It is safe for concurrent use.
type Held struct {
	open, most atomic.Int64
	opened     atomic.Int64
	wg         sync.WaitGroup
}

// Open returns how many connections are open now, Most how many were open at once.
func (h *Held) Open() int { return int(h.open.Load()) }
func (h *Held) Most() int { return int(h.most.Load()) }

// Opened returns how many were opened in all, including those that replaced others.
func (h *Held) Opened() int { return int(h.opened.Load()) }

// Wait returns when all connections are closed, after the context has ended.
func (h *Held) Wait() { h.wg.Wait() }

const (
	// reopen is the pause before a connection that the service closed is opened again.
	reopen = 500 * time.Millisecond
	// dials is how many connections one Hold opens at once. gap is the least time that each takes
	// up a place, which limits Hold to 2,000 connections per second.
	dials, gap = 16, 8 * time.Millisecond
)

// Hold opens n connections, sends words on each, and keeps them open until the context ends. A
// connection that the service closes is opened again. With answered, a connection counts as open
// from the first byte of its answer, which has to be a 200.
func (c *Client) Hold(ctx context.Context, n int, answered bool, words func(i int) []byte) *Held {
	h := &Held{}
	turn := make(chan struct{}, dials)
	for i := range n {
		h.wg.Go(func() {
			for ctx.Err() == nil {
				select {
				case turn <- struct{}{}:
				case <-ctx.Done():
					return
				}
				slot := time.Now()
				conn, err := c.begin(ctx, words(i), answered)
				time.AfterFunc(gap-time.Since(slot), func() { <-turn })
				if err == nil {
					h.keep(ctx, conn)
				}
				if !clock.Sleep(ctx, reopen) {
					return
				}
			}
		})
	}
	return h
}

// begin opens one connection.
func (c *Client) begin(ctx context.Context, words []byte, answered bool) (net.Conn, error) {
	conn, err := c.dial(ctx, 0)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(dialTimeout)) // a connection that takes no deadline is broken already
	_, err = conn.Write(words)
	if err == nil && answered {
		line := make([]byte, len("HTTP/1.1 200"))
		if _, err = conn.Read(line); err == nil && !strings.HasSuffix(string(line), " 200") {
			err = errors.New("it is answered " + string(line))
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}

// keep reads from a connection until it ends.
func (h *Held) keep(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	h.opened.Add(1)
	now := h.open.Add(1)
	defer h.open.Add(-1)
	for most := h.most.Load(); now > most && !h.most.CompareAndSwap(most, now); most = h.most.Load() {
	}
	var some [512]byte
	for {
		if _, err := conn.Read(some[:]); err != nil {
			return
		}
	}
}
