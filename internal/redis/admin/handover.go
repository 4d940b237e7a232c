package admin

import (
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A planned change of the master (a switchover) needs these commands.

// Fence makes a master refuse writes (NOREPLICAS), by asking for more replicas than any
// stack has (redis.conf, min-replicas-to-write). It also makes the master's pings to its
// replicas rare (repl-ping-replica-period, in seconds): they would put it ahead of its
// successor, and a pause does not stop them.
func (a *Client) Fence(ctx context.Context) error {
	return a.Configure(ctx, map[string]string{"min-replicas-to-write": "1000", "repl-ping-replica-period": "3600"})
}

// Awaiting is how many clients wait for the acknowledgement of replicas (WAIT).
func (a *Client) Awaiting(ctx context.Context) (n int, err error) {
	r, err := a.do(ctx, "CLIENT", "LIST", "TYPE", "normal")
	if err != nil {
		return 0, err
	}
	list, err := r.ToString()
	if err != nil {
		return 0, fmt.Errorf("CLIENT LIST at %s: %w", a.conn.Address, err)
	}
	for line := range strings.Lines(list) {
		words := strings.Fields(line)
		blocked := slices.ContainsFunc(words, func(w string) bool {
			flags, is := strings.CutPrefix(w, "flags=")
			return is && strings.Contains(flags, "b")
		})
		if blocked && slices.Contains(words, "cmd=wait") {
			n++
		}
	}
	return n, nil
}

// Configure changes settings of a Redis node until its end, all or none (CONFIG SET
// of Redis 7.0).
func (a *Client) Configure(ctx context.Context, settings map[string]string) error {
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
func (a *Client) PauseWrites(ctx context.Context, limit time.Duration) error {
	_, err := a.do(ctx, "CLIENT", "PAUSE", strconv.FormatInt(limit.Milliseconds(), 10), "WRITE")
	return err
}

// Unpause ends what PauseWrites began.
func (a *Client) Unpause(ctx context.Context) error {
	_, err := a.do(ctx, "CLIENT", "UNPAUSE")
	return err
}

// Prefer sets how much Sentinels prefer a replica for promotion (redis.conf,
// replica-priority): the lowest number wins, and 100 is Redis' default.
func (a *Client) Prefer(ctx context.Context, priority int) error {
	return a.Configure(ctx, map[string]string{"replica-priority": strconv.Itoa(priority)})
}

// Setting returns the value of one setting of a Redis node (CONFIG GET).
func (a *Client) Setting(ctx context.Context, name string) (string, error) {
	r, err := a.do(ctx, "CONFIG", "GET", name)
	if err != nil {
		return "", err
	}
	values, err := r.AsStrMap()
	if err != nil {
		return "", fmt.Errorf("CONFIG GET %s at %s: %w", name, a.conn.Address, err)
	}
	return values[name], nil
}

// KnownReplica is what a Sentinel last heard of a replica.
type KnownReplica struct {
	Priority int // replica-priority
	// Eligible is true when the Sentinel could promote it now (sentinelSelectSlave in
	// Redis 7.0): it is connected, was not silent, and told of itself lately.
	Eligible bool
	// InfoAge is how long ago it last replied to INFO.
	InfoAge time.Duration
}

// Limits within which a replica is eligible. Sentinel's own are longer with any
// periods that the supervisor sets but the shortest.
const (
	eligiblePing = time.Second
	eligibleInfo = 1500 * time.Millisecond
)

// KnownReplicas returns what a Sentinel knows of each replica of a master, by
// address (SENTINEL REPLICAS).
func (a *Client) KnownReplicas(ctx context.Context, master string) (map[string]KnownReplica, error) {
	r, err := a.do(ctx, "SENTINEL", "REPLICAS", master)
	if err != nil {
		return nil, err
	}
	replicas, err := r.ToArray()
	if err != nil {
		return nil, fmt.Errorf("SENTINEL REPLICAS at %s: %w", a.conn.Address, err)
	}
	known := map[string]KnownReplica{}
	for _, replica := range replicas {
		about, err := replica.AsStrMap()
		if err != nil {
			return nil, fmt.Errorf("SENTINEL REPLICAS at %s: %w", a.conn.Address, err)
		}
		if priority, err := strconv.Atoi(about["slave-priority"]); err == nil {
			known[net.JoinHostPort(about["ip"], about["port"])] = KnownReplica{priority, eligible(about), milliseconds(about["info-refresh"])}
		}
	}
	return known, nil
}

func eligible(about map[string]string) bool {
	flags := strings.Split(about["flags"], ",")
	for _, bad := range []string{"s_down", "o_down", "disconnected"} {
		if slices.Contains(flags, bad) {
			return false
		}
	}
	return about["slave-priority"] != "0" && milliseconds(about["last-ok-ping-reply"]) <= eligiblePing && milliseconds(about["info-refresh"]) <= eligibleInfo
}

// milliseconds returns a number of a Sentinel as a duration; a very long one if it is not a
// number.
func milliseconds(number string) time.Duration {
	ms, err := strconv.ParseInt(number, 10, 32)
	if err != nil {
		return math.MaxInt64
	}
	return time.Duration(ms) * time.Millisecond
}

// History is how far a replica is in a history of writes. Offsets of two nodes can be
// compared only where the id is the same (manual, INFO, master_replid). ROLE tells no
// offset of a replica that has lost its master.
type History struct {
	ID     string
	Offset int64
}

// History asks a replica for it (INFO, slave_repl_offset).
func (a *Client) History(ctx context.Context) (History, error) {
	about, err := a.info(ctx, "replication")
	if err != nil {
		return History{}, err
	}
	field := func(name string) string {
		_, rest, _ := strings.Cut(about, "\r\n"+name+":")
		value, _, _ := strings.Cut(rest, "\r\n")
		return value
	}
	h := History{ID: field("master_replid")}
	h.Offset, err = strconv.ParseInt(field("slave_repl_offset"), 10, 64)
	if h.ID == "" || err != nil {
		return History{}, fmt.Errorf("INFO replication at %s: it is no replica's", a.conn.Address)
	}
	return h, nil
}

// Tilted reports whether a Sentinel does not act: for 30 s after its clock jumped or it
// did not run for 2 s (manual, TILT mode). It accepts SENTINEL FAILOVER, and carries it
// out when that time is over.
func (a *Client) Tilted(ctx context.Context) (bool, error) {
	about, err := a.info(ctx, "sentinel")
	if err != nil {
		return false, err
	}
	return !strings.Contains(about, "sentinel_tilt:0\r\n"), nil
}

// Failover has a Sentinel replace a master although it works (manual, SENTINEL
// FAILOVER). It begins about a tenth of a second after the answer.
func (a *Client) Failover(ctx context.Context, master string) error {
	_, err := a.do(ctx, "SENTINEL", "FAILOVER", master)
	return err
}

// ReadCertificate has a Redis node read its certificate and key anew, which stand in one
// file, and that of the authority. Redis does so also where the settings are what they
// were (config.c, VOLATILE_CONFIG).
func (a *Client) ReadCertificate(ctx context.Context, certificate, authority string) error {
	_, err := a.do(ctx, "CONFIG", "SET", "tls-cert-file", certificate, "tls-key-file", certificate, "tls-ca-cert-file", authority)
	return err
}

// SetUser gives a user these rules, which begin with reset (ACL SETUSER). Connections
// of the user stay.
func (a *Client) SetUser(ctx context.Context, user string, rules ...string) error {
	_, err := a.do(ctx, append([]string{"ACL", "SETUSER", user}, rules...)...)
	return err
}

// DropUser removes a user and ends its connections (ACL DELUSER).
func (a *Client) DropUser(ctx context.Context, user string) error {
	_, err := a.do(ctx, "ACL", "DELUSER", user)
	return err
}

// SetSentinel changes how a Sentinel watches a master (SENTINEL SET).
func (a *Client) SetSentinel(ctx context.Context, master, option, value string) error {
	_, err := a.do(ctx, "SENTINEL", "SET", master, option, value)
	return err
}

// SentinelID returns the id by which a Sentinel votes and is voted for.
func (a *Client) SentinelID(ctx context.Context) (string, error) {
	r, err := a.do(ctx, "SENTINEL", "MYID")
	if err != nil {
		return "", err
	}
	return r.ToString()
}

// Vote is the last vote of a Sentinel about a master: which Sentinel shall lead a
// failover, and in which epoch. A Sentinel votes once in an epoch.
type Vote struct {
	Leader string // a SentinelID; "*": it has never voted
	Epoch  int64
}

// AskVote asks a Sentinel to vote for another one, or itself, as the leader of a
// failover of the master at an address in an epoch, as Sentinels ask each other, and
// returns its last vote, which is another one where it has voted in that epoch or
// knows of a later one. One that votes for another Sentinel begins no failover by
// itself for twice the failover time-out. In epoch 0 it is only asked for its last
// vote (sentinelVoteLeader in Redis 7.0).
func (a *Client) AskVote(ctx context.Context, master string, epoch int64, leader string) (Vote, error) {
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		return Vote{}, err
	}
	r, err := a.do(ctx, "SENTINEL", "IS-MASTER-DOWN-BY-ADDR", host, port, strconv.FormatInt(epoch, 10), leader)
	if err != nil {
		return Vote{}, err
	}
	answer, err := r.ToArray()
	if err != nil || len(answer) != 3 {
		return Vote{}, fmt.Errorf("SENTINEL IS-MASTER-DOWN-BY-ADDR at %s: unexpected answer", a.conn.Address)
	}
	var vote Vote
	if vote.Leader, err = answer[1].ToString(); err == nil {
		vote.Epoch, err = answer[2].AsInt64()
	}
	return vote, err
}
