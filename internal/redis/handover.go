package redis

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// A planned change of the master (a switchover) needs these commands.

// Fence makes a master refuse writes (NOREPLICAS): it needs more replicas than any
// stack has (redis.conf, min-replicas-to-write). Nor does it send its replicas the
// pings that would put it ahead of its successor (repl-ping-replica-period, in
// seconds; a pause does not stop them).
func (a *Admin) Fence(ctx context.Context) error {
	return a.Configure(ctx, map[string]string{"min-replicas-to-write": "1000", "repl-ping-replica-period": "3600"})
}

// Configure changes settings of a Redis node until its end, all or none (CONFIG SET
// of Redis 7.0).
func (a *Admin) Configure(ctx context.Context, settings map[string]string) error {
	args := []string{"CONFIG", "SET"}
	for name, value := range settings {
		args = append(args, name, value)
	}
	_, err := a.do(ctx, args...)
	return err
}

// PauseWrites keeps a server from adding anything to its replication stream for so
// long, also the questions of WAIT (manual, CLIENT PAUSE). Its replicas can then go
// follow a successor without a full synchronization, since none of them is ahead of it.
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
	return a.Configure(ctx, map[string]string{"replica-priority": strconv.Itoa(priority)})
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

// Tilted reports whether a Sentinel does not act: for 30 s after its clock jumped or it
// did not run for 2 s (manual, TILT mode). It accepts SENTINEL FAILOVER, and carries it
// out when that time is over.
func (a *Admin) Tilted(ctx context.Context) (bool, error) {
	about, err := a.info(ctx, "sentinel")
	if err != nil {
		return false, err
	}
	return !strings.Contains(about, "sentinel_tilt:0\r\n"), nil
}

// Failover has a Sentinel replace a master although it works (manual, SENTINEL
// FAILOVER). It begins about a tenth of a second after the answer.
func (a *Admin) Failover(ctx context.Context, master string) error {
	_, err := a.do(ctx, "SENTINEL", "FAILOVER", master)
	return err
}

// SetUser gives a user these rules, which begin with reset (ACL SETUSER). Connections
// of the user stay.
func (a *Admin) SetUser(ctx context.Context, user string, rules ...string) error {
	_, err := a.do(ctx, append([]string{"ACL", "SETUSER", user}, rules...)...)
	return err
}

// DropUser removes a user and ends its connections (ACL DELUSER).
func (a *Admin) DropUser(ctx context.Context, user string) error {
	_, err := a.do(ctx, "ACL", "DELUSER", user)
	return err
}

// SetSentinel changes how a Sentinel watches a master (SENTINEL SET).
func (a *Admin) SetSentinel(ctx context.Context, master, option, value string) error {
	_, err := a.do(ctx, "SENTINEL", "SET", master, option, value)
	return err
}
