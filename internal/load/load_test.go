package load

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/history"
)

func config(entries ...string) Config {
	return Config{
		Entries: entries, Prefix: "drill:1:", Rate: 1000, Clients: 8,
		Registers: 3, Counters: 2, Sets: 2, Timeout: 5 * time.Second, Seed: 1,
	}
}

func newLoad(t *testing.T, cfg Config) *Load {
	t.Helper()
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// run runs a load for that long and returns its operations.
func run(t *testing.T, l *Load, d time.Duration) []history.Operation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	l.Run(ctx)
	return l.Operations()
}

// one does a single operation with a client of the load.
func one(t *testing.T, l *Load, task task) history.Operation {
	t.Helper()
	c := l.newClient(0)
	c.connect(t.Context())
	defer c.conn.close()
	return c.perform(task, l.now())
}

var (
	increment     = task{number: 7, kind: history.Counter, verb: history.Increment, key: "drill:1:counter-0"}
	incrementOnce = task{number: 8, kind: history.Counter, verb: history.Increment, key: "drill:1:counter-0", once: true}
	readCounter   = task{number: 9, kind: history.Counter, verb: history.Read, key: "drill:1:counter-0", from: fromMaster}
	write         = task{number: 10, kind: history.Register, verb: history.Write, key: "drill:1:register-0"}
	readRegister  = task{number: 11, kind: history.Register, verb: history.Read, key: "drill:1:register-0", from: fromMaster}
	swap          = task{number: 12, kind: history.Register, verb: history.CAS, key: "drill:1:register-0", fresh: true}
	add           = task{number: 13, kind: history.Set, verb: history.Add, key: "drill:1:set-0-0"}
)

func TestWhatDoesNotMakeSenseIsRefused(t *testing.T) {
	for _, c := range []struct {
		says string
		set  func(*Config)
	}{
		{"no entry", func(c *Config) { c.Entries = nil }},
		{"http://", func(c *Config) { c.Entries = []string{"https://x"} }},
		{"names no host", func(c *Config) { c.Entries = []string{"http://"} }},
		{"more than host and port", func(c *Config) { c.Entries = []string{"http://x/app"} }},
		{"no URL", func(c *Config) { c.Entries = []string{"http://x y:%"} }},
		{"prefix of the keys is empty", func(c *Config) { c.Prefix = "" }},
		{"letters, digits", func(c *Config) { c.Prefix = "a/b" }},
		{"at most 100", func(c *Config) { c.Prefix = strings.Repeat("a", 101) }},
		{"rate is 0", func(c *Config) { c.Rate = 0 }},
		{"-1 clients", func(c *Config) { c.Clients = -1 }},
		{"no key", func(c *Config) { c.Registers, c.Counters, c.Sets = 0, 0, 0 }},
		{"-1 sets", func(c *Config) { c.Sets = -1 }},
		{"fractions of 1", func(c *Config) { c.ReplicaReads, c.CachedReads = .6, .6 }},
		{"timeout is -1s", func(c *Config) { c.Timeout = -time.Second }},
		{"at most 30s", func(c *Config) { c.Timeout = time.Minute }},
		{"grace is -1s", func(c *Config) { c.Grace = -time.Second }},
		{"token", func(c *Config) { c.Token = "a\r\nb" }},
	} {
		cfg := config("http://127.0.0.1:1")
		c.set(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("want an error with %q, got %v", c.says, err)
		}
	}
}

func TestEveryOperationIsDueAtItsTimeAndRecorded(t *testing.T) {
	s := newService(t)
	cfg := config(s.url)
	cfg.ReplicaReads, cfg.CachedReads = .2, .2
	l := newLoad(t, cfg)
	ops := run(t, l, 2*time.Second)
	if n := len(ops); n < 1900 || n > 2200 {
		t.Fatalf("%d operations in 2 s at 1000/s", n)
	}
	if !slices.IsSortedFunc(ops, func(a, b history.Operation) int { return int(a.End - b.End) }) {
		t.Error("the operations are not in order of their end")
	}
	dues := map[time.Duration]bool{}
	values := map[string]bool{}
	seen := map[string]int{}
	perClient := map[int]int{}
	for _, op := range ops {
		dues[op.Due] = true
		perClient[op.Client]++
		if op.Outcome != history.OK || op.Error != "" || op.Tries != 1 || op.Node != "web-1" {
			t.Fatalf("%+v", op)
		}
		if op.Start < op.Due || op.End <= op.Start {
			t.Errorf("due %v, start %v, end %v", op.Due, op.Start, op.End)
		}
		if op.Value != "" {
			if values[op.Value] {
				t.Errorf("the value %s comes twice", op.Value)
			}
			values[op.Value] = true
		}
		what := string(op.Kind) + " " + string(op.Verb)
		if op.Verb == history.Read {
			what += " " + op.From
		}
		if op.Once {
			what += " once"
		}
		seen[what]++
		if op.Verb == history.CAS {
			seen["matched "+strconv.FormatBool(op.Matched)]++
		}
	}
	first := ops[0].Due
	for _, op := range ops {
		first = min(first, op.Due)
	}
	if last := first + time.Duration(len(ops)-1)*time.Millisecond; l.End() != last {
		t.Errorf("the end is %v, and the last was due at %v", l.End(), last)
	}
	for n := range ops {
		if !dues[first+time.Duration(n)*time.Millisecond] {
			t.Fatalf("nothing was due at %d ms", n)
		}
	}
	for _, want := range []string{
		"register read master", "register read replica", "register read cached", "register write", "register write once",
		"register cas", "register cas once", "counter read master", "counter read replica", "counter read cached",
		"counter increment", "counter increment once", "set add", "set add once", "set read master", "matched true", "matched false",
	} {
		if seen[want] < 2 {
			t.Errorf("%d of %q", seen[want], want)
		}
	}
	t.Log(seen)
	if len(perClient) != 8 || s.conns != 8 {
		t.Errorf("%d clients and %d connections; want 8 of each", len(perClient), s.conns)
	}
	p := l.Progress()
	if p.Sent != len(ops) || p.OK != len(ops) || p.Failed+p.Unknown+p.InFlight+p.Waiting != 0 || p.Longest != 0 {
		t.Errorf("progress at the end: %+v", p)
	}
}

func TestReadsAskForWhatIsRecorded(t *testing.T) {
	s := newService(t)
	cfg := config(s.url)
	cfg.Token, cfg.ReplicaReads = "secret", .5
	l := newLoad(t, cfg)
	cached, replica := readRegister, readRegister
	cached.from, cached.maxAge, replica.from, replica.maxAge = fromCached, cachedAge, fromReplica, replicaAge
	for _, r := range []task{readRegister, cached, replica} {
		if op := one(t, l, r); op.From != r.from || op.MaxAge != r.maxAge || op.Found || op.Outcome != history.OK || op.Status != 404 {
			t.Errorf("%+v", op)
		}
	}
	for i, want := range []string{"master", "cached", "replica"} {
		h := s.requests[i].header
		if h.Get("Holdfast-Read") != want || h.Get("Authorization") != "Bearer secret" {
			t.Errorf("header %v", h)
		}
		if lag := h.Get("Holdfast-Max-Lag"); (lag == "1000ms") != (want == "replica") {
			t.Errorf("%s: lag %q", want, lag)
		}
	}
}

func TestTheSameSeedMakesTheSameMix(t *testing.T) {
	a, b := newLoad(t, config("http://x")), newLoad(t, config("http://x"))
	cfg := config("http://x")
	cfg.Seed = 2
	c := newLoad(t, cfg)
	same := 0
	for n := range 1000 {
		if a.task(n) != b.task(n) {
			t.Fatalf("operation %d differs", n)
		}
		if a.task(n) == c.task(n) {
			same++
		}
	}
	if same > 200 {
		t.Errorf("another seed has %d of 1000 operations in common", same)
	}
}

func TestSetsMakeRoomForNewOnes(t *testing.T) {
	l := newLoad(t, config("http://x"))
	members := map[string]int{}
	for n := range 5 * l.turn {
		if t := l.task(n); t.kind == history.Set && t.verb == history.Add {
			members[t.key]++
		}
	}
	if len(members) != 5*2 {
		t.Errorf("%d sets", len(members))
	}
	for key, n := range members {
		if n < setMembers*8/10 || n > setMembers*12/10 {
			t.Errorf("%s gets %d members", key, n)
		}
	}
	l.due = 2*l.turn + 1
	if n := len(l.keys()); n != 3+2+3*2 {
		t.Errorf("%d keys in the third turn", n)
	}
}

func TestKindsWithoutKeysAreLeftOut(t *testing.T) {
	cfg := config("http://x")
	cfg.Registers, cfg.Sets = 0, 0
	l := newLoad(t, cfg)
	for n := range 1000 {
		if k := l.task(n).kind; k != history.Counter {
			t.Fatalf("operation %d is of a %s", n, k)
		}
	}
}

func TestAnOperationThatWaitsForAClientIsLateFromWhenItWasDue(t *testing.T) {
	s := newService(t)
	var until atomic.Int64
	cfg := config(s.url)
	cfg.Clients = 2
	l := newLoad(t, cfg)
	s.fault = func(a *asked) fault { // stalls for half a second with the lock held
		if until.CompareAndSwap(0, 1) {
			time.Sleep(500 * time.Millisecond)
		}
		return ""
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); l.Run(ctx) }()
	var worst Progress
	stalled := false // seen stalled at one moment at least
	for p := l.Progress(); p.Sent < 1000; p = l.Progress() {
		if p.Longest > worst.Longest {
			worst = p
		}
		stalled = stalled || p.Longest >= 400*time.Millisecond && p.Waiting >= 300 && p.Late >= 300*time.Millisecond && p.InFlight == 2
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	<-ended
	if !stalled {
		t.Errorf("progress in the stall: %+v", worst)
	}
	ops := l.Operations()
	late := 0
	for _, op := range ops {
		if op.Start-op.Due > 100*time.Millisecond {
			late++
		}
	}
	if late < 300 {
		t.Errorf("%d operations were late; about 400 were due in the stall", late)
	}
}

func TestAnOperationRecordsWhichEntryItWasSentTo(t *testing.T) {
	s := newService(t)
	cfg := config("http://127.0.0.1:1", s.url) // nothing listens at the first entry
	did := one(t, newLoad(t, cfg), write)
	if did.Outcome != history.OK || did.Entry != s.url {
		t.Errorf("%s at %q, want %q", did.Outcome, did.Entry, s.url)
	}
	s.fault = func(*asked) fault { return hang }
	cfg = config(s.url, "http://127.0.0.1:1")
	cfg.Timeout = time.Second // long enough to send it
	did = one(t, newLoad(t, cfg), write)
	if did.Outcome != history.Unknown || did.Entry != s.url {
		t.Errorf("%s at %q, want %q", did.Outcome, did.Entry, s.url)
	}
}

func TestADeadEntryDoesNotStallThePaceAndEndingIsBounded(t *testing.T) {
	s := newService(t)
	s.fault = func(*asked) fault { return hang }
	cfg := config(s.url)
	cfg.Grace = 200 * time.Millisecond
	l := newLoad(t, cfg)
	began := time.Now()
	ops := run(t, l, 500*time.Millisecond)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	if len(ops) < 450 || len(ops) > 600 {
		t.Errorf("%d operations were due", len(ops))
	}
	sent := 0
	for _, op := range ops {
		sent += op.Tries
		switch {
		case (op.Value == "") == (op.Verb == history.Write || op.Verb == history.CAS || op.Verb == history.Add):
			t.Fatalf("value: %+v", op)
		case op.Tries == 0 && (op.Outcome != history.Failed || op.Client != -1):
			t.Fatalf("never sent: %+v", op)
		case op.Tries > 0 && (op.Outcome == history.OK || (op.Outcome == history.Unknown) != (op.Verb != history.Read)):
			t.Fatalf("sent and not answered: %+v", op)
		}
	}
	if sent != 8 {
		t.Errorf("%d were sent, by 8 clients", sent)
	}
	if p := l.Progress(); p.Waiting != 0 || p.InFlight != 0 || p.Failed+p.Unknown != len(ops) {
		t.Errorf("progress: %+v", p)
	}
}

func TestReadBackGoesOnUntilEveryKeyAnswered(t *testing.T) {
	s := newService(t)
	l := newLoad(t, config(s.url))
	before := len(run(t, l, 200*time.Millisecond))
	var n atomic.Int64
	s.fault = func(*asked) fault {
		return []fault{"503", resetBefore, "", "504", half, ""}[n.Add(1)%6]
	}
	if err := l.ReadBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	ops := l.Operations()[before:]
	if len(ops) != 3+2+2 {
		t.Errorf("%d final reads", len(ops))
	}
	tries := 0
	for _, op := range ops {
		if !op.Final || op.From != fromMaster || op.Outcome != history.OK || op.Error != "" || !op.Found {
			t.Errorf("%+v", op)
		}
		if op.Kind == history.Counter && op.Number != int64(s.numbers[op.Key]) || op.Kind == history.Register && op.Got != s.strings[op.Key] ||
			op.Kind == history.Set && !slices.Equal(op.Members, s.sets[op.Key]) {
			t.Errorf("read back: %+v", op)
		}
		tries += op.Tries
	}
	if tries < 2*len(ops) {
		t.Errorf("%d tries for %d keys", tries, len(ops))
	}

	ctx := s.refuse(t, "503", 3+2+2)
	if err := l.ReadBack(ctx); err == nil || !strings.Contains(err.Error(), "7 of 7 keys") || !strings.Contains(err.Error(), "503") {
		t.Errorf("nothing answers, and the error is %v", err)
	}
}

func TestRemoveRemovesItsKeysAndNoOther(t *testing.T) {
	s := newService(t)
	s.strings["drill:1:register-99"], s.strings["mine"], s.numbers["drill:10"], s.sets["set-0-0"] = "a", "b", 1, []string{"x"}
	l := newLoad(t, config(s.url))
	run(t, l, 200*time.Millisecond)
	if len(s.strings) != 2+3 || len(s.numbers) != 1+2 || len(s.sets) != 1+2 {
		t.Fatalf("%d registers, %d counters, %d sets", len(s.strings), len(s.numbers), len(s.sets))
	}
	failed := false
	s.fault = func(*asked) fault {
		if !failed {
			failed = true
			return "503"
		}
		return ""
	}
	if err := l.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(s.strings) != 2 || len(s.numbers) != 1 || len(s.sets) != 1 {
		t.Errorf("left: %v %v %v", s.strings, s.numbers, s.sets)
	}
	ctx := s.refuse(t, "403", 1)
	if err := l.Remove(ctx); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("it may not, and the error is %v", err)
	}
}

// refusing returns an address at which nothing listens.
func refusing(t *testing.T) string {
	t.Helper()
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	return "http://" + n.Addr().String()
}

func TestEachKindOfRequestIsTriedBeforeTheLoad(t *testing.T) {
	s := newService(t)
	cfg := config(s.url)
	cfg.ReplicaReads, cfg.CachedReads = 0.1, 0.1
	cfg.Headers = map[string]string{"Holdfast-Drill": "secret/web"}
	nodes, err := Try(t.Context(), cfg)
	if err != nil || len(nodes) == 0 || nodes[0] != "web-1" {
		t.Fatalf("%v, %v", nodes, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.strings)+len(s.numbers)+len(s.sets) > 0 {
		t.Errorf("left are %v %v %v", s.strings, s.numbers, s.sets)
	}
	for _, a := range s.requests {
		if got := a.header.Get("Holdfast-Drill"); got != "secret/web" {
			t.Errorf("%s %s went with %q", a.method, a.path, got)
		}
	}
}

// Routes may lead some of the load's requests elsewhere.
func TestARequestThatIsAnsweredOtherwiseIsNamed(t *testing.T) {
	for _, c := range []struct {
		method, path string
		answer       fault
		want         RefusedError
		authorised   bool
	}{
		{"POST", "/", "405", RefusedError{Request: "POST /", Status: 405}, true},
		{"PUT", "/v1/keys/", "404", RefusedError{Request: "PUT /v1/keys/", Status: 404}, true},
		{"GET", "/smembers/", "403", RefusedError{Request: "GET /smembers/", Status: 403}, false},
		{"GET", "/v1/keys", "403", RefusedError{Request: "GET /v1/keys?limit=1&prefix=drill:1:try:", Status: 403}, false},
		{"POST", "/pipeline", "401", RefusedError{Request: "POST /pipeline", Status: 401}, false},
		{"GET", "/v1/keys/", "404", RefusedError{Request: "GET /v1/keys/", Status: 404}, true},
		{"GET", "/v1/keys/", hang, RefusedError{Request: "GET /v1/keys/"}, true},
	} {
		s := newService(t)
		s.fault = func(a *asked) fault {
			if a.method == c.method && strings.HasPrefix(a.path, c.path) && (c.path != "/" || a.path == "/") {
				return c.answer
			}
			return ""
		}
		cfg := config(s.url)
		cfg.Timeout = 300 * time.Millisecond
		_, err := Try(t.Context(), cfg)
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.HasPrefix(refused.Request, c.want.Request) || refused.Status != c.want.Status || refused.Unauthorized() == c.authorised {
			t.Errorf("%s %s answered with %s: %v", c.method, c.path, c.answer, err)
		}
	}
}
