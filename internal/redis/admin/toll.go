package admin

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Toll is what one command has cost a Redis node since it was started.
type Toll struct {
	Calls int64
	Took  time.Duration
}

// Tolls returns what each command has cost a node, by its name in lower case, of
// a subcommand such as "script|kill" (INFO commandstats).
func (a *Client) Tolls(ctx context.Context) (map[string]Toll, error) {
	text, err := a.info(ctx, "commandstats")
	if err != nil {
		return nil, err
	}
	return parseTolls(text)
}

// parseTolls reads lines such as "cmdstat_client|kill:calls=2,usec=7,…".
func parseTolls(text string) (map[string]Toll, error) {
	all := map[string]Toll{}
	for line := range strings.Lines(text) {
		name, rest, found := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !found {
			continue
		}
		calls, rest, _ := strings.Cut(rest, ",usec=")
		micros, _, _ := strings.Cut(strings.TrimSpace(rest), ",")
		n, err := strconv.ParseInt(calls, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("INFO commandstats: %q: %w", line, err)
		}
		took, err := strconv.ParseInt(micros, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("INFO commandstats: %q: %w", line, err)
		}
		all[name] = Toll{n, time.Duration(took) * time.Microsecond}
	}
	return all, nil
}

// Figures are numbers from a Redis node's INFO, in bytes.
type Figures struct {
	// Used is the memory of the data, MaxMemory its limit; 0: none.
	Used, MaxMemory int64
	// Sent is what went out to clients since the node was started, replicas left
	// out.
	Sent int64
}

// Figures asks a Redis node for them (INFO memory, INFO stats).
func (a *Client) Figures(ctx context.Context) (Figures, error) {
	var f Figures
	for _, one := range []struct {
		section, name string
		into          *int64
	}{{"memory", "used_memory", &f.Used}, {"memory", "maxmemory", &f.MaxMemory}, {"stats", "total_net_output_bytes", &f.Sent}} {
		text, err := a.info(ctx, one.section)
		if err != nil {
			return Figures{}, err
		}
		_, rest, _ := strings.Cut(text, "\n"+one.name+":")
		number, _, _ := strings.Cut(rest, "\r")
		if *one.into, err = strconv.ParseInt(number, 10, 64); err != nil {
			return Figures{}, fmt.Errorf("INFO %s at %s: %s: %w", one.section, a.conn.Address, one.name, err)
		}
	}
	return f, nil
}

// Slowest returns the longest command that the node's own log of slow ones has
// since a time, with a second to spare (SLOWLOG). The name is empty if it has none.
func (a *Client) Slowest(ctx context.Context, since time.Time) (name string, took time.Duration, err error) {
	r, err := a.do(ctx, "SLOWLOG", "GET", "128")
	if err != nil {
		return "", 0, err
	}
	entries, err := r.ToArray()
	if err != nil {
		return "", 0, fmt.Errorf("SLOWLOG GET at %s: %w", a.conn.Address, err)
	}
	for _, e := range entries {
		// Number, second, microseconds, the command and its arguments.
		parts, _ := e.ToArray()
		if len(parts) < 4 {
			continue
		}
		at, _ := parts[1].AsInt64()
		micros, _ := parts[2].AsInt64()
		command, _ := parts[3].AsStrSlice()
		if d := time.Duration(micros) * time.Microsecond; at >= since.Unix() && d > took && len(command) > 0 {
			name, took = strings.ToLower(command[0]), d
		}
	}
	return name, took, nil
}
