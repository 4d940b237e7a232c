package metrics

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Web is what one of Holdfast's own web nodes reports in its metrics about Redis (package
// web).
type Web struct {
	Ready bool
	// Master is the address of the Redis master that it uses, or empty if it knows none.
	Master string
	// Replicas is how many replicas are online at the master. InSync is how many of them
	// must have a write before it is acknowledged; it is known only if Wrote is true.
	Replicas, InSync int
	Wrote            bool
	// Held is how many requests wait for Redis.
	Held int
}

// maxMetrics is how much of a node's metrics is read, in bytes.
const maxMetrics = 4 << 20

var noKeptConnections = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// ReadWeb reads the metrics of a web node at its admin address, host:port.
func ReadWeb(ctx context.Context, admin string) (Web, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return Web{}, err
	}
	resp, err := noKeptConnections.Do(req)
	if err != nil {
		return Web{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Web{}, fmt.Errorf("/metrics at %s answers %s", admin, resp.Status)
	}
	return parseWeb(io.LimitReader(resp.Body, maxMetrics))
}

func parseWeb(in io.Reader) (Web, error) {
	var web Web
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		series, text, _ := strings.Cut(lines.Text(), " ")
		name, labels, _ := strings.Cut(series, "{")
		value, _ := strconv.ParseFloat(text, 64)
		switch name {
		case "holdfast_ready":
			web.Ready = value == 1
		case "holdfast_redis_master_info":
			if value == 1 {
				web.Master = strings.TrimSuffix(strings.TrimPrefix(labels, `address="`), `"}`)
			}
		case "holdfast_redis_replicas":
			web.Replicas = int(value)
		case "holdfast_redis_in_sync_replicas":
			web.InSync = int(value)
		case "holdfast_redis_batch_operations_count":
			web.Wrote = value > 0
		case "holdfast_held_requests":
			web.Held = int(value)
		}
	}
	return web, lines.Err()
}
