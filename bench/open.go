package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// newHistogram returns a histogram of latencies in microseconds, up to a minute, with three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 60_000_000, 3) }

// record records a latency. A longer one than a minute counts as a minute.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 1), h.HighestTrackableValue()))
}

// openLoop sends at a fixed rate, whatever becomes of the answers. It uses the connection that has
// been free longest, so that all connections are used. A request that finds no free connection
// waits for one. Its latency counts from when it should have been sent: a server that stalls cannot
// hide that by getting fewer requests meanwhile.
type openLoop struct {
	address   string
	exchanges []exchange
	counts    time.Time // requests due before do not count

	mu       sync.Mutex
	all      []*openConn
	free     []*openConn
	waiting  []due
	ending   bool // connections end after their present answer
	seen     *hdrhistogram.Histogram
	answered int64
	err      error
}

// due is a request to send, with its time.
type due struct {
	at time.Time
	x  *exchange
}

type openConn struct {
	loop *openLoop
	conn net.Conn
	sent chan due // the request that was sent and not answered yet; at most one
}

// dial opens the connections, with one exchange on each, so that the server has accepted it.
func (l *openLoop) dial(ctx context.Context, n int) (err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	d := net.Dialer{Timeout: 10 * time.Second}
	for i := range n {
		conn, err := d.DialContext(ctx, "tcp", l.address)
		if err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, n, err)
		}
		l.all = append(l.all, &openConn{loop: l, conn: conn, sent: make(chan due, 1)})
		x := l.exchanges[i%len(l.exchanges)]
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write(x.request); err != nil {
			return err
		}
		a, err := readAnswer(bufio.NewReaderSize(conn, 4<<10), nil)
		if err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, n, err)
		}
		if err := a.checkBody(x.want); err != nil {
			return err
		}
		if a.closes {
			return fmt.Errorf("%s closes its connections: there is no fixed rate on them", l.address)
		}
		if err := conn.SetDeadline(time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

func (l *openLoop) close() {
	for _, c := range l.all {
		_ = c.conn.Close()
	}
}

// run sends at a rate for warm and then measure. Requests that were due during warm do not count.
// It returns when every answer has arrived, or when patience is over.
func (l *openLoop) run(ctx context.Context, rate int, warm, measure time.Duration) (loaded, error) {
	const patience = 10 * time.Second
	defer l.close()
	began := time.Now()
	l.counts, l.seen, l.free = began.Add(warm), newHistogram(), append([]*openConn{}, l.all...)
	end := began.Add(warm + measure + patience)

	for _, c := range l.all {
		if err := c.conn.SetDeadline(end); err != nil {
			return loaded{}, err
		}
	}

	var readers sync.WaitGroup
	for _, c := range l.all {
		readers.Go(c.read)
	}

	late, err := l.pace(ctx, began, rate, warm+measure)
	l.mu.Lock()
	if l.err == nil {
		l.err = err
	}

	if l.err == nil && len(l.waiting) > 0 {
		l.err = fmt.Errorf("%d requests were never sent: the server is not fit for %d requests/s", len(l.waiting), rate)
	}

	failed := l.err != nil
	l.ending, l.waiting = true, nil
	for _, c := range l.free {
		close(c.sent) // the others notice ending when they have their answer
	}
	l.mu.Unlock()

	if failed {
		l.close()
	}
	readers.Wait()
	if l.err != nil {
		return loaded{}, l.err
	}

	micros := func(h *hdrhistogram.Histogram, q float64) time.Duration {
		return time.Duration(h.ValueAtQuantile(q)) * time.Microsecond
	}
	return loaded{
		requests: l.answered, took: measure,
		p50: micros(l.seen, 50), p99: micros(l.seen, 99), p999: micros(l.seen, 99.9), late: micros(late, 99),
	}, nil
}

// pace sends every request when it is due, and finally waits until no request waits for a
// connection. It returns how late it was itself. It sleeps in the kernel, because Go's timers have
// a resolution of only a millisecond when nothing else runs (epoll_wait).
func (l *openLoop) pace(ctx context.Context, began time.Time, rate int, d time.Duration) (*hdrhistogram.Histogram, error) {
	late := newHistogram()
	total := int(d.Seconds() * float64(rate))
	for i := range total {
		at := began.Add(time.Duration(float64(i) / float64(rate) * float64(time.Second)))
		for {
			wait := time.Until(at)
			if wait <= 0 {
				break
			}
			if wait > 50*time.Millisecond {
				wait = 50 * time.Millisecond
			}
			ts := syscall.NsecToTimespec(int64(wait))
			_ = syscall.Nanosleep(&ts, nil)
			if ctx.Err() != nil {
				return late, ctx.Err()
			}
		}
		record(late, time.Since(at))
		l.dispatch(due{at, &l.exchanges[i%len(l.exchanges)]})
		l.mu.Lock()
		err := l.err
		l.mu.Unlock()
		if err != nil {
			return late, err
		}
	}
	_ = until(ctx, 5*time.Second, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.waiting) > 0 && l.err == nil {
			return fmt.Errorf("%d wait", len(l.waiting))
		}
		return nil
	})
	return late, ctx.Err()
}

// dispatch sends a request on the connection that has been free longest, or queues it if none is
// free.
func (l *openLoop) dispatch(d due) {
	l.mu.Lock()
	if len(l.free) == 0 {
		l.waiting = append(l.waiting, d)
		l.mu.Unlock()
		return
	}
	c := l.free[0]
	l.free = l.free[1:]
	l.mu.Unlock()
	c.send(d)
}

func (c *openConn) send(d due) {
	c.sent <- d
	if _, err := c.conn.Write(d.x.request); err != nil {
		c.loop.fail(err)
	}
}

func (l *openLoop) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

// read reads the answers to the requests that are sent, until there are no more.
func (c *openConn) read() {
	r := bufio.NewReaderSize(c.conn, 4<<10)
	body := make([]byte, 0, 512)
	for d := range c.sent {
		a, err := readAnswer(r, body)
		if err == nil {
			err = a.checkBody(d.x.want)
		}
		if err != nil {
			c.loop.fail(err)
			return
		}
		body = a.body
		if !c.answered(d.at) {
			return
		}
	}
}

// answered records an answer. It then sends the next waiting request, or marks the connection as
// free. It returns false if the run is ending.
func (c *openConn) answered(at time.Time) bool {
	l := c.loop
	took := time.Since(at)
	l.mu.Lock()
	if !at.Before(l.counts) {
		record(l.seen, took)
		l.answered++
	}
	if len(l.waiting) == 0 {
		defer l.mu.Unlock()
		if !l.ending {
			l.free = append(l.free, c)
		}
		return !l.ending
	}
	d := l.waiting[0]
	l.waiting = l.waiting[1:]
	l.mu.Unlock()
	c.send(d)
	return true
}
