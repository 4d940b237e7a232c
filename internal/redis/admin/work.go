package admin

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// supervising are the commands that a Redis node gets though no application
// uses it: from Sentinels, replicas, balancers and its supervisor, and from web nodes that
// compare clocks.
var supervising = map[string]bool{
	"acl": true, "auth": true, "client": true, "command": true, "config": true, "hello": true, "info": true,
	"ping": true, "psync": true, "publish": true, "quit": true, "replconf": true, "replicaof": true, "role": true,
	"select": true, "slaveof": true, "subscribe": true, "time": true, "unsubscribe": true,
}

// Work is how many commands a Redis node has carried out for applications since
// it was started, itself or after its master (INFO commandstats). Those that
// supervise it do not count.
func (a *Client) Work(ctx context.Context) (int64, error) {
	text, err := a.info(ctx, "commandstats")
	if err != nil {
		return 0, err
	}
	return parseWork(text)
}

// info returns a section of INFO.
func (a *Client) info(ctx context.Context, section string) (string, error) {
	r, err := a.do(ctx, "INFO", section)
	if err != nil {
		return "", err
	}
	text, err := r.ToString()
	if err != nil {
		return "", fmt.Errorf("INFO %s at %s: %w", section, a.conn.Address, err)
	}
	return text, nil
}

// parseWork sums lines such as "cmdstat_client|kill:calls=2,usec=7,…".
func parseWork(text string) (sum int64, err error) {
	for line := range strings.Lines(text) {
		name, rest, found := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		container, _, _ := strings.Cut(name, "|")
		if !found || supervising[container] {
			continue
		}
		calls, _, _ := strings.Cut(rest, ",")
		n, err := strconv.ParseInt(calls, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("INFO commandstats: %q: %w", line, err)
		}
		sum += n
	}
	return sum, nil
}
