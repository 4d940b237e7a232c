package drill

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/stack"
)

// serveMetrics serves the metrics of a web node; of returns them for each question.
func serveMetrics(t *testing.T, of func(question int) nodeMetrics) (address string, asked *atomic.Int32) {
	asked = new(atomic.Int32)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := of(int(asked.Add(1)))
		fmt.Fprintf(w, "# HELP %s Replicas.\n%s %d\nother 7\n%s %d\n", inSyncMetric, inSyncMetric, n.inSync, operationsMetric, n.operations)
	}))
	t.Cleanup(web.Close)
	return strings.TrimPrefix(web.URL, "http://"), asked
}

func TestTheNextFaultWaitsUntilEveryReplicaConfirmsWrites(t *testing.T) {
	address, asked := serveMetrics(t, func(question int) nodeMetrics { return nodeMetrics{min(question/3, 2), question} })
	s := &supervisedStack{spec: stack.Default(), metricsAddresses: map[string]string{"web-1": address}}
	if err := s.awaitInSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n != 6 {
		t.Errorf("it was asked %d times, and the answer was right the sixth time", n)
	}
	s.spec.Redis.Replicas = 0
	s.metricsAddresses["web-1"] = "nowhere"
	if err := s.awaitInSync(t.Context()); err != nil {
		t.Errorf("a stack without replicas: %v", err)
	}
}

// A web node that no client uses does not learn which replicas are in sync.
func TestTheNextFaultDoesNotWaitForAWebNodeThatIsOutOfUse(t *testing.T) {
	address, asked := serveMetrics(t, func(int) nodeMetrics { return nodeMetrics{0, 1200300} })
	s := &supervisedStack{spec: stack.Default(), metricsAddresses: map[string]string{"web-1": address}}
	began := time.Now()
	if err := s.awaitInSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < idleFor || asked.Load() < 2 {
		t.Errorf("it was given %v, and asked %d times", took, asked.Load())
	}
}
