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

// A replica that was away, or late, has to confirm no write for a while after
// it is back. What strikes another one meanwhile strikes a second time.

// inSyncLimit is how long web nodes may leave a replica out that is well: each
// gives one that was late several times longer each time (package redis).
const inSyncLimit = 45 * time.Second

// idleFor is how long a web node does nothing that is held for out of use: its
// application is not the one that the drill's clients reach. Who is in sync it
// learns from its own work alone.
const idleFor = 3 * time.Second

// What a web node tells: the number of replicas that have to confirm, and of
// the operations that it has carried out.
const (
	inSyncMetric     = "holdfast_redis_in_sync_replicas"
	operationsMetric = "holdfast_redis_batch_operations_sum"
)

// findAdmins finds where the web nodes tell their numbers.
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

// awaitInSync waits until every web node in use has every replica confirm its
// writes. Of those that have no port for their numbers (admin in the stack file)
// nobody knows.
func (t *target) awaitInSync(ctx context.Context) error {
	return t.awaitInSyncOf(ctx, t.stack.Redis.Replicas)
}

// awaitInSyncOf does so where the stack has that many replicas.
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

// numbers are what a web node tells of itself.
type numbers struct{ inSync, operations int }

// numbersOf asks a web node for its numbers.
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

// parseNumbers finds them in Prometheus' text format.
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
