package drill

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"holdfast/internal/attack"
	"holdfast/internal/plan"
	"holdfast/internal/redis"
)

var hugeAnswer = fault{
	name: "huge-answer", about: "for 5 s clients get values of tens of MB, many at a time, and pipelines of 300 times 1 MB, and read the answers slowly or not at all: nobody else waits, and no node runs out of memory",
	course: true, needs: needRedis | needKV, promise: undisturbed, ready: requireStrings,
	inject: func(ctx context.Context, fc *faultContext) error {
		a, err := fc.prepareAttack(ctx)
		if err != nil {
			return err
		}
		large, many, requests, err := a.storeHuge(ctx)
		if err != nil {
			return err
		}
		before := a.sentBytes(ctx)
		t, memory := attack.NewTally(), fc.watchMemory(ctx)
		err = a.runAttack(ctx, "getting huge answers", func(ctx context.Context) {
			var clients sync.WaitGroup
			for _, one := range requests {
				clients.Go(func() {
					a.client.Repeat(ctx, slowRequests, attackPause, t, func(int) attack.Request { return one })
				})
			}
			clients.Wait()
		})
		if err != nil {
			return err
		}
		sent := a.sentSince(ctx, before)
		least := min(hugeLeast, large*int64(len(requests))/2)
		if refused := t.Refused(); sent < least && refused < len(requests) {
			return fmt.Errorf("%d MB came from Redis, and %d MB are the least that says something (%s)", sent>>20, least>>20, t)
		}
		fc.evidence("%d clients got values of %d MB, and %d of 1 MB in one request: %s; Redis sent %d MB, the clients read %d MB", len(requests), large>>20, many, t, sent>>20, t.Bytes()>>20)
		fc.evidence("memory at the most: %s", memory())
		a.recordMasterRemains(ctx)
		return nil
	},
}

const (
	// hugeLargest is the largest value, in bytes. hugeLeast is how many bytes Redis has to send for
	// the fault to prove something.
	hugeLargest, hugeLeast = 48 << 20, 32 << 20
	// slowReader is how many bytes per second a slow client reads.
	slowReader = 256 << 10
	// escaped is the largest number of bytes of JSON for one byte of a value. hugeClients is how
	// many clients may have a value in a node's memory at once.
	escaped, hugeClients = 6, 12
)

// storeHuge stores what the clients will get: a large value, whose length it returns, and one of 1
// MB, of which one request gets n. It returns one request for each client.
func (a *attackRun) storeHuge(ctx context.Context) (large int64, n int, requests []attack.Request, err error) {
	ctx, cancel := context.WithTimeout(ctx, prepareLimit)
	defer cancel()
	a.s.say("storing what huge answers are made of")

	n = a.s.pipelineOf(slowPipeline)
	most := min(hugeLargest, a.data)
	if a.limited {
		most = a.data / hugeClients
		n = min(n, max(1, int(most>>20)))
	}
	if free, known := freeMemory(); known {
		// The machine has to bear even a node that limits nothing.
		most = min(most, free/roomShare/escaped/hugeClients)
	}

	if most < 1<<20 {
		return 0, 0, nil, fmt.Errorf("there is too little memory for huge answers, in Redis or in the machine: values of %d KB are possible, and 1 MB is the least", most>>10)
	}

	key, one := a.prefix+"large", a.prefix+"mega"
	if large, err = a.storeBits(ctx, key, most); err != nil {
		return 0, 0, nil, fmt.Errorf("store a large value: %w", err)
	}
	if _, err = a.storeBits(ctx, one, 1<<20); err != nil {
		return 0, 0, nil, fmt.Errorf("store a value of 1 MB: %w", err)
	}

	pipeline, mget := attack.Pipeline(n, "GET", one), attack.Command(strings.Fields("MGET"+strings.Repeat(" "+one, min(n, 100)))...)
	get := attack.Command("GET", key)
	return large, n, []attack.Request{
		{Path: "/", Body: get, Rate: slowReader},
		{Path: "/", Body: get, Rate: slowReader},
		{Path: "/", Body: get, Header: "Upstash-Encoding: base64\r\n", Rate: slowReader},
		{Path: "/", Body: get, Header: "Upstash-Response-Format: resp2\r\n", Rate: slowReader},
		{Path: "/v1/keys/" + key, Rate: slowReader},
		{Path: "/get/" + key, Header: "Holdfast-Read: replica\r\n", Rate: slowReader},
		{Path: "/get/" + key, Header: "Holdfast-Read: cached\r\n", Rate: slowReader},
		{Path: "/pipeline", Body: pipeline, Rate: slowReader},
		{Path: "/multi-exec", Body: pipeline, Rate: slowReader},
		{Path: "/", Body: mget},
		{Path: "/", Body: get},
		{Path: "/", Body: get, Leave: 1 << 20},
	}, nil
}

// sentBytes returns how many bytes each Redis node has sent to clients so far.
func (a *attackRun) sentBytes(ctx context.Context) map[string]int64 {
	return askEach(ctx, a, func(admin *redis.Admin, ctx context.Context) (int64, error) {
		f, err := admin.Figures(ctx)
		return f.Sent, err
	})
}

// sentSince returns how many bytes all Redis nodes have sent since before. A node that was
// restarted counts from 0.
func (a *attackRun) sentSince(ctx context.Context, before map[string]int64) (sum int64) {
	for node, n := range a.sentBytes(ctx) {
		if n >= before[node] {
			n -= before[node]
		}
		sum += n
	}
	return sum
}

// memoryEvery is the interval at which the nodes' memory is measured.
const memoryEvery = 100 * time.Millisecond

// watchMemory measures the memory of web nodes, balancers and redis nodes until most is called.
// most returns the peak of each kind, in words.
func (fc *faultContext) watchMemory(ctx context.Context) (most func() string) {
	st, err := fc.stack.status(ctx)
	if err != nil {
		return func() string { return "unknown" }
	}
	looking, end := context.WithCancel(ctx)
	peak, ended := map[plan.Kind]int64{}, make(chan struct{})
	go func() {
		defer close(ended)
		for sleep(looking, memoryEvery) == nil {
			for _, n := range st.Nodes {
				if bytes, known := residentMemory(n.PID); known {
					peak[n.Kind] = max(peak[n.Kind], bytes)
				}
			}
		}
	}()
	return func() string {
		end()
		<-ended
		if len(peak) == 0 {
			return "unknown"
		}
		return fmt.Sprintf("a web node %d MB, a balancer %d MB, a Redis node %d MB", peak[plan.Web]>>20, peak[plan.Balancer]>>20, peak[plan.Redis]>>20)
	}
}
