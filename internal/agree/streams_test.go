package agree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestStrangersAtThePortDoNoHarm(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two")
	l := c.leader()
	for _, says := range []string{
		"", "\n", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("x", 1<<16), "holdfast-agree/2 raft " + l.host.ID() + "\n",
		"holdfast-agree/1 raft one/0000000000000000\n", "holdfast-agree/1 dance " + l.host.ID() + "\n",
		greeting + " " + forRaft + " " + l.host.ID() + "\n\xff\xff\xff garbage",
	} {
		conn, err := net.Dial("tcp", l.host.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() }) // most of them stay and say no more
		fmt.Fprint(conn, says)
	}
	c.put("a", "1")
	if l.ctx.Err() != nil {
		t.Error(context.Cause(l.ctx))
	}
	if _, err := l.host.Probe(within(t, patience), Peer{ID: l.host.ID(), Address: l.host.address}); err != nil {
		t.Error(err)
	}
}

func TestWhereNobodyOfOursListensThatIsSaid(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one")
	l := c.leader()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			conn.Close()
		}
	}()

	err = l.host.Add(within(t, patience), "two/0000000000000000", listener.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "cannot be added") {
		t.Error(err)
	}
	if got := names(l.host.Members()); got != "one" {
		t.Error(got)
	}
}

func TestAMemberIsOfNoUseOnceItHasStopped(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one")
	l := c.leader()
	_, events := l.host.Watch(context.Background())
	if err := l.host.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if _, open := <-events; open {
		t.Error("a watch goes on")
	}
	ctx := within(t, patience)
	_, err := l.host.Put(ctx, l.term, "a", nil, 0)
	wants(t, err, ErrStopped)
	_, _, err = l.host.Get(ctx, "a")
	wants(t, err, ErrStopped)
	wants(t, l.host.Add(ctx, "two/1", "127.0.0.1:1"), ErrStopped)
	if l.host.Err() != nil {
		t.Error("it was asked to stop: ", l.host.Err())
	}
}

func TestAStopWaitsForLeadAsLongAsItsContext(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one")
	end := make(chan struct{})
	var waits atomic.Bool
	c.mu.Lock()
	c.lead = func(context.Context, *host, uint64) {
		waits.Store(true)
		<-end
	}
	c.mu.Unlock()
	l := c.leader()
	soon(t, "a Lead that does not end", func() bool {
		l.host.Resign(errors.New("for the one that waits"))
		return waits.Load()
	})
	if err := l.host.Stop(within(t, 100*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(end)
	if err := l.host.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
}

func TestTheSameWarningIsLoggedOnceAMinute(t *testing.T) {
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	logger := newLogger(ctx, slog.New(slog.NewTextHandler(&log, nil)))
	for range 10 {
		logger.Error("failed to heartbeat to", "peer", "two", "backoff time", time.Now().Nanosecond())
		logger.Error("failed to heartbeat to", "peer", "three", "backoff time", time.Now().Nanosecond())
		logger.Info("entering follower state")
	}
	cancel()
	logger.Error("it ends")
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("%d lines:\n%s", got, &log)
	}
}
