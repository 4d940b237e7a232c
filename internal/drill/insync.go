package drill

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/plan"
)

// After a replica was away, or late, web nodes do not wait for it for a while. A fault that strikes
// another replica meanwhile would be a second fault at once.

// inSyncLimit is how long web nodes may leave out a replica that is well. Package redis makes a
// replica that was late repeatedly wait several times longer each time.
const inSyncLimit = 45 * time.Second

// idleFor: a web node that did nothing for this long is not under load, so the drill does not wait
// for it. Such a node cannot learn that a replica is in sync again, because it learns that from its
// own writes alone.
const idleFor = 3 * time.Second

// The metrics of a web node: how many replicas have to confirm, and how many operations it has
// carried out.
const (
	inSyncMetric     = "holdfast_redis_in_sync_replicas"
	operationsMetric = "holdfast_redis_batch_operations_sum"
)

// findMetrics finds the addresses of the web nodes' metrics.
func (s *supervisedStack) findMetrics(p plan.Plan) {
	s.metricsAddresses = map[string]string{}
	for _, h := range p.Hosts {
		for _, n := range h.Processes {
			if n.Kind == plan.Web && n.Admin != "" {
				s.metricsAddresses[n.Node] = n.Admin
			}
		}
	}
}

// awaitInSync waits until every web node under load waits for every replica. Web nodes without a
// port for their metrics (admin in the stack file) cannot be asked, and are left out.
func (s *supervisedStack) awaitInSync(ctx context.Context) error {
	return s.awaitInSyncOf(ctx, s.spec.Redis.Replicas)
}

// awaitInSyncOf is awaitInSync for a stack with that many replicas.
func (s *supervisedStack) awaitInSyncOf(ctx context.Context, want int) error {
	if !s.spec.Redis.Enabled || want == 0 {
		return nil
	}
	deadline := time.Now().Add(inSyncLimit)
	for node, address := range s.metricsAddresses {
		words := ""
		began, first := time.Now(), nodeMetrics{}
		err := awaitEvery(ctx, askEvery, "", time.Until(deadline), func() bool {
			got, err := metricsOf(ctx, address)
			if err != nil {
				words = fmt.Sprintf("the numbers of %s cannot be read: %v", node, err)
				return false
			}
			if first == (nodeMetrics{}) {
				first = got
			}
			words = fmt.Sprintf("%s waits for %d of %d replicas", node, got.inSync, want)
			return got.inSync >= want || got.operations == first.operations && time.Since(began) > idleFor
		})
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			return fmt.Errorf("%s, after %v", words, inSyncLimit)
		}
	}
	return nil
}

// nodeMetrics are the metrics of a web node that the drill reads.
type nodeMetrics struct{ inSync, operations int }

// metricsOf reads a web node's metrics.
func metricsOf(ctx context.Context, address string) (nodeMetrics, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nodeMetrics{}, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	resp, err := client.Do(req)
	if err != nil {
		return nodeMetrics{}, err
	}
	defer resp.Body.Close()
	return parseMetrics(resp.Body)
}

// parseMetrics finds the metrics in Prometheus' text format. It returns an error if one is missing.
func parseMetrics(r io.Reader) (nodeMetrics, error) {
	found := map[string]int{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if name == inSyncMetric || name == operationsMetric {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return nodeMetrics{}, fmt.Errorf("%s: %w", name, err)
			}
			found[name] = int(n)
		}
	}
	if err := lines.Err(); err != nil {
		return nodeMetrics{}, err
	}
	if len(found) < 2 {
		return nodeMetrics{}, fmt.Errorf("there is no %s, or no %s", inSyncMetric, operationsMetric)
	}
	return nodeMetrics{found[inSyncMetric], found[operationsMetric]}, nil
}
