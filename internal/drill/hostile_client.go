package drill

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/attack"
)

var hostileClient = fault{
	name: "hostile-client", about: "for 5 s clients of one address do all at once: thousands of idle streams and of half-sent requests, malformed ones, large bodies, slow commands, huge answers that they leave: all others are served, new clients too",
	course: true, needs: needRedis | needKV, promise: undisturbed, ready: requireStrings,
	inject: func(ctx context.Context, fc *faultContext) error {
		a, err := fc.prepareAttack(ctx)
		if err != nil {
			return err
		}

		d, err := a.storeSlow(ctx, a.data/2)
		if err != nil {
			return err
		}

		large := int64(16 << 20)
		if a.limited {
			large = a.data / 32
		}
		if _, err := a.storeBits(ctx, a.prefix+"large", large); err != nil {
			return fmt.Errorf("store a large value: %w", err)
		}

		crowd := fc.connectionCount()
		slow, malformed, bodies, left := attack.NewTally(), attack.NewTally(), attack.NewTally(), attack.NewTally()
		var streams, halves *attack.Held
		memory := fc.watchMemory(ctx)

		err = a.runAttack(ctx, "being a hostile client", func(ctx context.Context) {
			stream := []byte(a.client.Head("GET", "/subscribe/"+a.prefix+"channel") + "\r\n")
			streams = a.client.Hold(ctx, crowd/2, true, func(int) []byte { return stream })
			halves = a.client.Hold(ctx, crowd-crowd/2, false, a.partialRequest)
			var clients sync.WaitGroup
			repeat := func(t *attack.Tally, most int, pause time.Duration, all []attack.Request) {
				for _, one := range all {
					clients.Go(func() { a.client.Repeat(ctx, most, pause, t, func(int) attack.Request { return one }) })
				}
			}
			// Only a few of the slow commands: the slow-command fault sends them all.
			commands := d.commands(fc.pipelineOf(slowPipeline))
			repeat(slow, slowRequests, attackPause, []attack.Request{commands[0], commands[3], commands[5], commands[10]})
			repeat(malformed, malformedMost, attackPause, a.malformed())
			repeat(bodies, bodiesMost, bodiesPause, a.largeBodies())
			repeat(left, slowRequests, attackPause, a.abandoned())
			clients.Wait()
			streams.Wait()
			halves.Wait()
		})
		if err != nil {
			return err
		}

		if streams.Opened()+halves.Opened() < heldLeast || malformed.Refused() == 0 {
			return fmt.Errorf("hardly any of it reached the entry: %d streams and %d half-sent requests were opened, and %d are the least; malformed requests: %s", streams.Opened(), halves.Opened(), heldLeast, malformed)
		}
		fc.evidence("at once open: %d streams of %d that were tried, %d half-sent requests of %d", streams.Most(), crowd/2, halves.Most(), crowd-crowd/2)
		fc.evidence("malformed: %s; large bodies: %s; left early: %s", malformed, bodies, left)
		fc.evidence("memory at the most: %s", memory())
		return a.showSlow(ctx, slow, 0) // 0: the entry may have refused all of them
	},
}

const (
	// crowdMost limits the number of connections. fewFiles is how many files this process needs
	// besides them.
	crowdMost, fewFiles = 8000, 1000
	// malformedMost and bodiesMost limit how many requests one client of each kind sends. Large
	// bodies are heavy for the machine.
	malformedMost, bodiesMost = 300, 20
	bodiesPause               = 250 * time.Millisecond
	// heldLeast is how many streams and half-sent requests have to be opened for the fault to prove
	// something.
	heldLeast = 100
)

// connectionCount returns how many connections to open: more than the balancers accept, as far as
// this process may have files open.
func (fc *faultContext) connectionCount() int {
	declared := fc.stack.spec
	n := min(crowdMost, declared.Entry.Limits.Connections*declared.Balancers+200)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < uint64(n+fewFiles) {
		n = max(0, int(limit.Cur)-fewFiles)
	}
	return n
}

// partialRequest returns the beginning of a request that never ends.
func (a *attackRun) partialRequest(i int) []byte {
	switch i % 4 {
	case 0: // not even a whole line
		return []byte("GET /get/x HT")
	case 1: // a header without an end
		return []byte(a.client.Head("GET", "/get/"+a.prefix+"x") + "X-More: ")
	case 2: // a body that does not come
		return []byte(a.client.Head("POST", "/") + "Content-Length: 100000\r\n\r\n[\"SET\",")
	}
	return []byte{} // nothing at all
}

// malformed returns requests that are not HTTP, or not valid for this service.
func (a *attackRun) malformed() []attack.Request {
	head := a.client.Head
	var all []attack.Request
	for _, raw := range []string{
		"\r\n\r\n\x00\x01\x02\x16\x03\x01\r\n\r\n",
		"GET\r\n\r\n",
		head("GET", "/get/x y z") + "\r\n",
		head("GET", "/"+strings.Repeat("x", 40_000)) + "\r\n",
		head("POST", "/") + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		head("POST", "/") + "Content-Length: -1\r\n\r\n",
		head("POST", "/") + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
		head("GET", "/get/x") + strings.Repeat("X-Many: x\r\n", 3000) + "\r\n",
		head("POST", "/pipeline") + "Content-Length: 9\r\nConnection: close\r\n\r\n[[[[[[[[[",
		head("\x7f", "/") + "\r\n",
	} {
		all = append(all, attack.Request{Raw: []byte(raw)})
	}
	return all
}

// largeBodies returns requests with large bodies that store nothing.
func (a *attackRun) largeBodies() []attack.Request {
	size := 8 << 20
	if kv := a.s.stack.spec.Apps[a.s.stack.loads.app].KV; kv != nil {
		size = min(size, int(kv.Limits.Body)-1)
	}
	return []attack.Request{
		{Path: "/pipeline", Body: []byte(strings.Repeat("[", size))},
		{Path: "/", Body: []byte(`["GET","` + strings.Repeat("x", size-20) + `"]`)},
		{Path: "/pipeline", Body: attack.Pipeline(size/100, "GET", a.prefix+strings.Repeat("x", 20))},
		{Path: "/", Body: make([]byte, 2*size)},
	}
}

// abandoned returns requests whose clients leave before they have the whole answer, or any of it.
func (a *attackRun) abandoned() []attack.Request {
	get := attack.Command("GET", a.prefix+"large")
	return []attack.Request{
		{Path: "/", Body: get, Leave: -1},
		{Path: "/", Body: get, Leave: 1},
		{Path: "/", Body: attack.Command("BITCOUNT", a.prefix+"bits"), Leave: -1},
	}
}
