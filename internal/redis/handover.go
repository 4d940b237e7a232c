package redis

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"
)

// What a planned change of the master (a switchover) asks of servers.

// LimitWrites makes a master refuse writes (NOREPLICAS) unless so many replicas
// are connected (redis.conf, min-replicas-to-write). More than there are make a
// fence: no write gets through.
func (a *Admin) LimitWrites(ctx context.Context, replicas int) error {
	_, err := a.do(ctx, "CONFIG", "SET", "min-replicas-to-write", strconv.Itoa(replicas))
	return err
}

// PauseWrites keeps a server from adding anything to its replication stream for so
// long, also the questions of WAIT (manual, CLIENT PAUSE). Its replicas can then go
// on with a successor without a full synchronization: nobody is ahead of it.
func (a *Admin) PauseWrites(ctx context.Context, limit time.Duration) error {
	_, err := a.do(ctx, "CLIENT", "PAUSE", strconv.FormatInt(limit.Milliseconds(), 10), "WRITE")
	return err
}

// Unpause ends what PauseWrites began.
func (a *Admin) Unpause(ctx context.Context) error {
	_, err := a.do(ctx, "CLIENT", "UNPAUSE")
	return err
}

// Prefer sets how much Sentinels prefer a replica for promotion (redis.conf,
// replica-priority): the lowest number wins, and 100 is Redis' default.
func (a *Admin) Prefer(ctx context.Context, priority int) error {
	_, err := a.do(ctx, "CONFIG", "SET", "replica-priority", strconv.Itoa(priority))
	return err
}

// Setting returns the value of one setting of a Redis node (CONFIG GET).
func (a *Admin) Setting(ctx context.Context, name string) (string, error) {
	r, err := a.do(ctx, "CONFIG", "GET", name)
	if err != nil {
		return "", err
	}
	values, err := r.AsStrMap()
	if err != nil {
		return "", fmt.Errorf("CONFIG GET %s at %s: %w", name, a.link.addr, err)
	}
	return values[name], nil
}

// Priorities returns the replica-priority that a Sentinel last heard of each
// replica of a master, by address.
func (a *Admin) Priorities(ctx context.Context, master string) (map[string]int, error) {
	r, err := a.do(ctx, "SENTINEL", "REPLICAS", master)
	if err != nil {
		return nil, err
	}
	replicas, err := r.ToArray()
	if err != nil {
		return nil, fmt.Errorf("SENTINEL REPLICAS at %s: %w", a.link.addr, err)
	}
	priorities := map[string]int{}
	for _, replica := range replicas {
		about, err := replica.AsStrMap()
		if err != nil {
			return nil, fmt.Errorf("SENTINEL REPLICAS at %s: %w", a.link.addr, err)
		}
		if n, err := strconv.Atoi(about["slave-priority"]); err == nil {
			priorities[net.JoinHostPort(about["ip"], about["port"])] = n
		}
	}
	return priorities, nil
}

// Failover has a Sentinel replace a master although it works (manual, SENTINEL
// FAILOVER). It begins about a tenth of a second after the answer.
func (a *Admin) Failover(ctx context.Context, master string) error {
	_, err := a.do(ctx, "SENTINEL", "FAILOVER", master)
	return err
}
