package admin

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
)

// What a Sentinel knows of the other nodes, and how it forgets.

// Reset has a Sentinel forget all replicas of a master, all other Sentinels, and a
// failover that is under way (SENTINEL RESET; sentinelResetMaster in Redis 7.0). It keeps
// the address of the master, its epoch and its settings. It finds the replicas when it
// asks the master for INFO next, and the Sentinels by what these publish. Until then it
// votes, and can lead no failover.
func (a *Client) Reset(ctx context.Context, master string) error {
	_, err := a.do(ctx, "SENTINEL", "RESET", master)
	return err
}

// KnownSentinels returns the other Sentinels that a Sentinel knows, by address. The value
// is true for one that it reaches.
func (a *Client) KnownSentinels(ctx context.Context, master string) (map[string]bool, error) {
	r, err := a.do(ctx, "SENTINEL", "SENTINELS", master)
	if err != nil {
		return nil, err
	}
	sentinels, err := r.ToArray()
	if err != nil {
		return nil, fmt.Errorf("SENTINEL SENTINELS at %s: %w", a.conn.Address, err)
	}
	known := map[string]bool{}
	for _, sentinel := range sentinels {
		about, err := sentinel.AsStrMap()
		if err != nil {
			return nil, fmt.Errorf("SENTINEL SENTINELS at %s: %w", a.conn.Address, err)
		}
		flags := strings.Split(about["flags"], ",")
		known[net.JoinHostPort(about["ip"], about["port"])] = !slices.Contains(flags, "s_down") && !slices.Contains(flags, "disconnected")
	}
	return known, nil
}

// Followers returns the addresses of the replicas that a master has connections of, also
// of those that are not in step yet: those that Sentinels find (INFO replication).
func (a *Client) Followers(ctx context.Context) (addresses []string, err error) {
	about, err := a.info(ctx, "replication")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(about) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		number, is := strings.CutPrefix(name, "slave")
		if !is || strings.Trim(number, "0123456789") != "" || number == "" {
			continue
		}
		fields := map[string]string{}
		for field := range strings.SplitSeq(value, ",") {
			key, text, _ := strings.Cut(field, "=")
			fields[key] = text
		}
		addresses = append(addresses, net.JoinHostPort(fields["ip"], fields["port"]))
	}
	return addresses, nil
}

// Address is where the server listens.
func (a *Client) Address() string { return a.conn.Address }
