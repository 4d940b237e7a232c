package load

import (
	"math/rand/v2"
	"strconv"
	"time"

	"holdfast/internal/history"
)

// The mix, in shares. A kind without keys is left out, and the others keep their proportions.
const (
	registerShare, counterShare, setShare = 40, 35, 25

	registerReads, registerWrites, registerSwaps = 50, 25, 25
	counterReads, counterIncrements              = 30, 70
	setReads, setAdds                            = 4, 96

	// onceShare is the percentage of writes with an Idempotency-Key. They are repeated while their
	// outcome is unknown.
	onceShare = 50
	// freshShare is the percentage of compare-and-sets that expect what any client saw last, which
	// usually matches. The others expect what their own client saw last, which another client has
	// usually replaced.
	freshShare = 50

	// setMembers is roughly how many members a set gets before a new one replaces it. A read
	// returns all of them.
	setMembers = 1000
)

// The greatest age of answers that are not the master's; see docs/guarantees.md.
const (
	replicaAge = time.Second
	cachedAge  = 1200 * time.Millisecond
)

// task describes one operation. It follows from the seed and the operation's number alone, so
// operations that wait for a client need no memory.
type task struct {
	number int
	kind   history.Kind
	verb   history.Verb
	key    string
	from   string
	maxAge time.Duration
	once   bool
	fresh  bool
	url    *URL // for history.Ask
}

// plain reports whether the task writes a register by SET. Half of the writes without an
// Idempotency-Key do, because web nodes recognize the repetition of a SET by a balancer in a
// different way.
func (t task) plain() bool { return t.verb == history.Write && !t.once && t.number%2 == 1 }

// value returns what the task stores, if anything. No two values are the same.
func (t task) value(client int) string {
	if t.verb == history.Write || t.verb == history.CAS || t.verb == history.Add {
		return "c" + strconv.Itoa(client) + "-" + strconv.Itoa(t.number)
	}
	return ""
}

// task returns the operation with that number.
func (l *Load) task(number int) task {
	var chance rand.PCG
	chance.Seed(uint64(l.cfg.Seed), uint64(number))
	if len(l.cfg.URLs) > 0 {
		u := &l.cfg.URLs[below(&chance, len(l.cfg.URLs))]
		return task{number: number, kind: history.URL, verb: history.Ask, key: u.String(), url: u}
	}
	return l.randomTask(&chance, number, number/l.turn)
}

// below returns a random number from 0 to n-1. n is small, so the distribution is even enough.
func below(chance *rand.PCG, n int) int { return int(chance.Uint64() % uint64(n)) }

// randomTask returns a random operation on a key. turn determines the sets that are in use.
func (l *Load) randomTask(chance *rand.PCG, number, turn int) task {
	c := &l.cfg
	below := func(n int) int { return below(chance, n) }
	shares := [...]int{registerShare, counterShare, setShare}
	keys := [...]int{c.Registers, c.Counters, c.Sets}

	all := 0
	for i, n := range keys {
		if n == 0 {
			shares[i] = 0
		}
		all += shares[i]
	}

	t := task{number: number}
	roll, key, verb := below(all), 0, 0
	switch {
	case roll < shares[0]:
		key, verb = below(c.Registers), below(registerReads+registerWrites+registerSwaps)
		t.kind, t.key = history.Register, l.registerKey(key)
		switch {
		case verb < registerReads:
			t.verb = history.Read
		case verb < registerReads+registerWrites:
			t.verb = history.Write
		default:
			t.verb = history.CAS
		}
	case roll < shares[0]+shares[1]:
		key, verb = below(c.Counters), below(counterReads+counterIncrements)
		t.kind, t.verb, t.key = history.Counter, history.Increment, l.counterKey(key)
		if verb < counterReads {
			t.verb = history.Read
		}
	default:
		key, verb = below(c.Sets), below(setReads+setAdds)
		t.kind, t.verb, t.key = history.Set, history.Add, l.setKey(key, turn)
		if verb < setReads {
			t.verb = history.Read
		}
	}

	if t.verb == history.Read {
		t.from = fromMaster
		if t.kind != history.Set {
			t.from, t.maxAge = c.readSource(float64(below(1<<20)) / (1 << 20))
		}
		return t
	}
	t.once, t.fresh = below(100) < onceShare, below(100) < freshShare
	return t
}

// The sources of a read.
const (
	fromMaster  = "master"
	fromReplica = "replica"
	fromCached  = "cached"
)

func (c *Config) readSource(roll float64) (string, time.Duration) {
	switch {
	case roll < c.ReplicaReads:
		return fromReplica, replicaAge
	case roll < c.ReplicaReads+c.CachedReads:
		return fromCached, cachedAge
	}
	return fromMaster, 0
}

// setTurn returns after how many operations the sets are full and are replaced by new ones.
func (c *Config) setTurn() int {
	if c.Sets == 0 {
		return 1
	}
	all := setShare
	if c.Registers > 0 {
		all += registerShare
	}
	if c.Counters > 0 {
		all += counterShare
	}
	return setMembers * c.Sets * all / setShare * (setReads + setAdds) / setAdds
}

func (l *Load) registerKey(n int) string { return l.cfg.Prefix + "register-" + strconv.Itoa(n) }
func (l *Load) counterKey(n int) string  { return l.cfg.Prefix + "counter-" + strconv.Itoa(n) }

func (l *Load) setKey(n, turn int) string {
	return l.cfg.Prefix + "set-" + strconv.Itoa(n) + "-" + strconv.Itoa(turn)
}

// typedKey is a key with its kind.
type typedKey struct {
	kind history.Kind
	key  string
}

// keys returns all keys that operations so far have used, or may have used.
func (l *Load) keys() []typedKey {
	l.mu.Lock()
	due := l.due
	l.mu.Unlock()
	var all []typedKey
	if due == 0 || len(l.cfg.URLs) > 0 {
		return all
	}
	for n := range l.cfg.Registers {
		all = append(all, typedKey{history.Register, l.registerKey(n)})
	}
	for n := range l.cfg.Counters {
		all = append(all, typedKey{history.Counter, l.counterKey(n)})
	}
	for turn := range (due-1)/l.turn + 1 {
		for n := range l.cfg.Sets {
			all = append(all, typedKey{history.Set, l.setKey(n, turn)})
		}
	}
	return all
}
