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

// findAdmins finds the addresses of the web nodes' metrics.
func (t *target) findAdmins(p plan.Plan) {
	t.numbers = map[string]string{}
	for _, h := range p.Hosts {
		for _, n := range h.Processes {
			if n.Kind == plan.Web && n.Admin != "" {
				t.numbers[n.Node] = n.Admin
			}
		}
	}
}

// awaitInSync waits until every web node under load waits for every replica. Web nodes without a
// port for their metrics (admin in the stack file) cannot be asked, and are left out.
func (t *target) awaitInSync(ctx context.Context) error {
	return t.awaitInSyncOf(ctx, t.stack.Redis.Replicas)
}

// awaitInSyncOf is awaitInSync for a stack with that many replicas.
func (t *target) awaitInSyncOf(ctx context.Context, want int) error {
	if !t.stack.Redis.Enabled || want == 0 {
		return nil
	}
	deadline := time.Now().Add(inSyncLimit)
	for node, address := range t.numbers {
		words := ""
		began, first := time.Now(), numbers{}
		err := awaitEvery(ctx, askEvery, "", time.Until(deadline), func() bool {
			got, err := numbersOf(ctx, address)
			if err != nil {
				words = fmt.Sprintf("the numbers of %s cannot be read: %v", node, err)
				return false
			}
			if first == (numbers{}) {
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

// numbers are the metrics of a web node that the drill reads.
type numbers struct{ inSync, operations int }

// numbersOf reads a web node's metrics.
func numbersOf(ctx context.Context, address string) (numbers, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return numbers{}, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	resp, err := client.Do(req)
	if err != nil {
		return numbers{}, err
	}
	defer resp.Body.Close()
	return parseNumbers(resp.Body)
}

// parseNumbers finds the metrics in Prometheus' text format. It returns an error if one is missing.
func parseNumbers(r io.Reader) (numbers, error) {
	found := map[string]int{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if name == inSyncMetric || name == operationsMetric {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return numbers{}, fmt.Errorf("%s: %w", name, err)
			}
			found[name] = int(n)
		}
	}
	if err := lines.Err(); err != nil {
		return numbers{}, err
	}
	if len(found) < 2 {
		return numbers{}, fmt.Errorf("there is no %s, or no %s", inSyncMetric, operationsMetric)
	}
	return numbers{found[inSyncMetric], found[operationsMetric]}, nil
}
