package drill

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/internal/attack"
)

var slowCommand = fault{
	name: "slow-command", about: "for 5 s a client sends commands that take Redis long, alone and in pipelines of 300 (BITCOUNT of 100 MB, SCAN with a huge COUNT, BITOP, SORT, HGETALL, SUNION, …): it waits, nobody else does, and the master remains the master",
	course: true, needs: needRedis | needKV, promise: undisturbed, ready: requireStrings,
	inject: func(ctx context.Context, fc *faultContext) error {
		a, err := fc.prepareAttack(ctx)
		if err != nil {
			return err
		}
		d, err := a.storeSlow(ctx, a.data)
		if err != nil {
			return err
		}
		t := attack.NewTally()
		err = a.runAttack(ctx, "sending slow commands", func(ctx context.Context) {
			var clients sync.WaitGroup
			for _, one := range d.commands(a.s.pipelineOf(slowPipeline)) {
				clients.Go(func() {
					a.client.Repeat(ctx, slowRequests, attackPause, t, func(int) attack.Request { return one })
				})
			}
			clients.Wait()
		})
		if err != nil {
			return err
		}
		return a.showSlow(ctx, t, slowLeast)
	},
}

const (
	// slowPipeline is the number of commands in a pipeline of slow commands. fatPipeline is that of
	// commands with large answers: few, since the fault huge-answer covers those.
	slowPipeline, fatPipeline = 300, 5
	// slowRequests limits how many requests one client sends.
	slowRequests = 500
	// slowLeast is how much of Redis' time an attack has to take for the fault to prove something.
	slowLeast = 300 * time.Millisecond
	// elements is the size of the large hash, set, list and sorted set. atOnce is how many of them
	// one command adds.
	elements, atOnce = 50_000, 5_000
)

// slowData are the keys that the slow commands use.
type slowData struct {
	prefix string
	bits   int64 // length of the string
}

func (d slowData) key(name string) string { return d.prefix + name }

// storeSlow stores the keys, of about data bytes together.
func (a *attackRun) storeSlow(ctx context.Context, data int64) (d slowData, err error) {
	ctx, cancel := context.WithTimeout(ctx, prepareLimit)
	defer cancel()
	a.s.say("storing what slow commands are about")
	d = slowData{prefix: a.prefix}
	// BITOP and COPY store as much again.
	if d.bits, err = a.storeBits(ctx, d.key("bits"), min(data/2, 100_000_000)); err != nil {
		return d, fmt.Errorf("store a large string: %w", err)
	}
	n := elements
	if data < mostData {
		n = elements / 5
	}
	for key, command := range map[string]string{"hash": "HSET", "set": "SADD", "list": "RPUSH", "sorted": "ZADD"} {
		key = d.key(key)
		var commands [][]byte
		for from := 0; from < n; from += atOnce {
			args := []string{command, key}
			for i := from; i < from+atOnce; i++ {
				element := "e" + strconv.Itoa(i)
				switch command {
				case "HSET":
					args = append(args, element, "v")
				case "ZADD":
					args = append(args, strconv.Itoa(i), element)
				default:
					args = append(args, element)
				}
			}
			commands = append(commands, attack.Command(args...))
		}
		if err := a.store(ctx, key, commands...); err != nil {
			return d, fmt.Errorf("store a large value with %s: %w", command, err)
		}
	}
	return d, nil
}

// slowNames are the commands that commands sends, as Redis names them in its statistics.
var slowNames = []string{
	"bitcount", "bitpos", "bitop", "scan", "hscan", "sort", "hgetall", "smembers", "lrange", "lpos", "sunion", "sunionstore", "zunion", "copy",
}

// commands returns the requests of the attack, one for each client: pipelines of up to that many
// commands, and single commands.
func (d slowData) commands(pipeline int) []attack.Request {
	many := func(name string, n int) []string {
		return strings.Split(strings.TrimSuffix(strings.Repeat(d.key(name)+" ", n), " "), " ")
	}
	line := func(n int, args ...string) attack.Request {
		return attack.Request{Path: "/pipeline", Body: attack.Pipeline(n, args...)}
	}
	one := func(args ...string) attack.Request {
		return attack.Request{Path: "/", Body: attack.Command(args...)}
	}
	with := func(args []string, more ...string) []string { return append(args, more...) }
	fat := min(fatPipeline, pipeline)
	return []attack.Request{
		line(pipeline, "BITCOUNT", d.key("bits")),
		line(pipeline, "BITCOUNT", d.key("bits")),
		line(pipeline, "BITPOS", d.key("bits"), "1"),
		line(pipeline, "SCAN", "0", "MATCH", d.key("zzz*"), "COUNT", "1000000000"),
		line(pipeline, "HSCAN", d.key("hash"), "0", "MATCH", "zzz*", "COUNT", "1000000000"),
		line(pipeline, "SORT", d.key("set"), "ALPHA", "LIMIT", "0", "1"),
		line(pipeline, "LPOS", d.key("list"), "nobody"),
		line(fat, "HGETALL", d.key("hash")),
		line(fat, "SMEMBERS", d.key("set")),
		line(fat, "LRANGE", d.key("list"), "0", "-1"),
		one(with([]string{"BITOP", "OR", d.key("bits-all")}, many("bits", 32)...)...),
		one(with([]string{"SUNIONSTORE", d.key("set-all")}, many("set", 32)...)...),
		one(with(with([]string{"ZUNION", "32"}, many("sorted", 32)...), "WITHSCORES")...),
		one(with([]string{"SUNION"}, many("set", 16)...)...),
		one("COPY", d.key("hash"), d.key("hash-copy"), "REPLACE"),
	}
}

// pipelineOf returns n, or the largest number of commands that one request may have if that is
// less.
func (fc *faultContext) pipelineOf(n int) int {
	if kv := fc.stack.spec.Apps[fc.stack.loads.app].KV; kv != nil {
		return min(n, kv.Limits.Pipeline)
	}
	return n
}

// showSlow records how long Redis worked on slow commands. It returns an error if that was less
// than least.
func (a *attackRun) showSlow(ctx context.Context, t *attack.Tally, least time.Duration) error {
	took, words := a.cost(ctx, slowNames...)
	a.s.evidence("slow requests: %s", t)
	if took < least {
		return fmt.Errorf("slow commands took Redis %d ms, and %d ms are the least that says something (%s)", took.Milliseconds(), least.Milliseconds(), t)
	}
	a.s.evidence("they took Redis %.2f s (INFO commandstats): %s", took.Seconds(), words)
	longest, name := time.Duration(0), ""
	for _, n := range a.redis {
		ctx, cancel := context.WithTimeout(ctx, lookLimit)
		if command, d, err := a.s.stack.admin(n.Name).Slowest(ctx, a.began); err == nil && d > longest {
			longest, name = d, command
		}
		cancel()
	}
	if name != "" {
		a.s.evidence("the longest was %s, %d ms (SLOWLOG)", strings.ToUpper(name), longest.Milliseconds())
	}
	a.recordMasterRemains(ctx)
	return nil
}
