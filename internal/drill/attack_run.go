package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/internal/attack"
	"holdfast/internal/history"
	"holdfast/internal/plan"
	"holdfast/internal/redis"
	"holdfast/internal/supervise"
)

// Some faults are nothing but the requests of a client that asks too much. That client may be
// served slowly, or refused. All others must be served as before, and no node may be taken for
// dead.

// undisturbed is promised to all clients that take no part in the attack.
var undisturbed = history.Promise{Failed: history.None, Unknown: history.None, Pause: time.Second, Binding: true}

// The limits of an attack.
const (
	// attackLasts is how long the attack goes on. attackSettles is how long the drill watches after
	// it, since a node may still be busy with its requests.
	attackLasts, attackSettles = 5 * time.Second, time.Second
	// prepareLimit limits how long storing the attack's data may take.
	prepareLimit = 20 * time.Second
	// mostData is the most that the attack stores, in bytes. It is refused if there is room for
	// less than leastData.
	mostData, leastData = 128 << 20, 8 << 20
	// roomShare: the attack takes at most one part in roomShare of the free memory of Redis and of
	// the machine.
	roomShare = 4
	// attackPause is the least time between two requests of one client of the attack.
	attackPause = 10 * time.Millisecond
	// keysLive is how long the attack's keys live if nothing can remove them.
	keysLive = 15 * time.Minute
)

// attackRun is an attack under way. It is not safe for concurrent use.
type attackRun struct {
	s      *faultContext
	client *attack.Client
	prefix string // of its keys
	master supervise.NodeStatus
	redis  []supervise.NodeStatus
	data   int64 // how many bytes the attack may store
	// limited: Redis has a memory limit. Answers that wait to be sent to clients count towards that
	// limit (evict.c leaves out only what is for replicas), and so towards data.
	limited bool
	began   time.Time
	before  map[string]map[string]redis.Toll // by node
}

// prepareAttack prepares an attack: it finds the master, measures how much room there is, and adds
// to the journal the step that removes the attack's keys.
func (fc *faultContext) prepareAttack(ctx context.Context) (*attackRun, error) {
	master, err := fc.randomBusyNode(ctx, plan.Redis, "master")
	if err != nil {
		return nil, err
	}
	a := &attackRun{s: fc, master: master, prefix: fc.prefix + "attack:", began: time.Now()}
	if a.redis, err = fc.upNodes(ctx, plan.Redis, ""); err != nil {
		return nil, err
	}

	if a.data, err = a.room(ctx); err != nil {
		return nil, err
	}

	entry, err := fc.entry(ctx)
	if err != nil {
		return nil, err
	}
	if a.client, err = fc.attacker(entry, true); err != nil {
		return nil, err
	}

	left := leftKeys{State: fc.stack.state(), Entry: entry, Trusted: fc.stack.ownStack, Prefix: a.prefix, TokenFile: fc.tokenFile}
	if len(fc.stack.headers) > 0 {
		left.App = fc.stack.loads.app
	}
	if err := fc.undo(step{Why: "the keys of an attack", Keys: &left, Unless: filepath.Join(fc.stack.state(), "nodes")}); err != nil {
		return nil, err
	}
	a.before = a.commandCosts(ctx)
	return a, nil
}

// entry returns the base URL that the attackers use.
func (fc *faultContext) entry(ctx context.Context) (string, error) {
	if len(fc.stack.entries) > 0 {
		return fc.stack.entries[0], nil
	}
	st, err := fc.stack.status(ctx)
	return st.Entry, err
}

// requireCommand returns an error if the application refuses a command to the drill's token (a
// 4xx). It ignores a stack that does not answer: the drill run reports that.
func (fc *faultContext) requireCommand(ctx context.Context, command ...string) error {
	client, err := fc.newcomer(ctx)
	if err != nil {
		return err
	}
	if got := client.Do(ctx, attack.Request{Path: "/", Body: attack.Command(command...)}); got.Status >= 400 && got.Status < 500 {
		return fmt.Errorf("the application %s refuses %s to the drill (%s)", fc.stack.loads.app, command[0], got)
	}
	return nil
}

// requireStrings returns an error if the application does not let the drill store an attack's data.
// The command that it tries stores nothing.
func requireStrings(ctx context.Context, fc *faultContext) error {
	return fc.requireCommand(ctx, "SETRANGE", fc.prefix+"ready", "0", "")
}

// attacker returns a client of the application under drill.
func (fc *faultContext) attacker(entry string, elsewhere bool) (*attack.Client, error) {
	return attack.NewClient(attack.Config{Entry: entry, Token: fc.mix.Token, Headers: fc.stack.headers, TLS: trustEntry(entry, fc.stack.state()), Elsewhere: elsewhere})
}

// room returns how many bytes the attack may store: a part of what Redis and the machine have left,
// so that none of the user's data is refused or evicted for it.
func (a *attackRun) room(ctx context.Context) (int64, error) {
	f, err := a.s.stack.admin(a.master.Name).Figures(ctx)
	if err != nil {
		return 0, err
	}
	room := int64(mostData)
	if f.MaxMemory > 0 {
		a.limited = true
		room = min(room, (f.MaxMemory-f.Used)/roomShare)
	}
	if free, known := freeMemory(); known {
		// Each Redis node holds the data, and may copy it once.
		room = min(room, free/roomShare/int64(2*len(a.redis)))
	}
	if room < leastData {
		return 0, fmt.Errorf("there is no room for the attack's data: it may take %d MB, a quarter of what %s and the machine have left, and %d MB are the least", room>>20, a.master.Name, leastData>>20)
	}
	return room, nil
}

// freeMemory returns how many bytes the machine can give to programs, and whether that is known
// (Linux, proc(5), MemAvailable). The memory limit of a container lowers it (cgroup v2,
// memory.max).
func freeMemory() (int64, bool) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	free, known := kilobytes(string(b), "MemAvailable:")
	if limit, there := cgroupNumber("memory.max"); there {
		used, _ := cgroupNumber("memory.current")
		free = min(free, limit-used)
	}
	return free, known
}

// cgroupNumber returns a number of the control group that this process sees as the root. The limit
// "max" counts as no limit.
func cgroupNumber(name string) (int64, bool) {
	b, err := os.ReadFile("/sys/fs/cgroup/" + name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

// residentMemory returns the resident memory of a process in bytes (VmRSS), and whether it is
// known.
func residentMemory(pid int) (int64, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, false
	}
	return kilobytes(string(b), "VmRSS:")
}

// kilobytes finds a line such as "VmRSS:  123 kB" and returns its value in bytes.
func kilobytes(text, name string) (int64, bool) {
	_, rest, _ := strings.Cut(text, name)
	number, _, found := strings.Cut(strings.TrimSpace(rest), " kB")
	n, err := strconv.ParseInt(number, 10, 64)
	return n << 10, found && err == nil
}

// do sends one request; any answer but success is an error.
func (a *attackRun) do(ctx context.Context, path string, body []byte) error {
	if got := a.client.Do(ctx, attack.Request{Path: path, Body: body}); !got.OK() || strings.Contains(string(got.Body), `"error"`) {
		return &refusal{got}
	}
	return nil
}

// refusal is the error of a request that was not carried out.
type refusal struct{ answer attack.Answer }

func (r *refusal) Error() string { return "the application answers " + r.answer.String() }

// store runs commands that store something at a key. The key gets an expiry, in case nothing can
// remove it.
func (a *attackRun) store(ctx context.Context, key string, commands ...[]byte) error {
	for _, c := range commands {
		if err := a.do(ctx, "/", c); err != nil {
			return err
		}
	}
	return a.do(ctx, "/", attack.Command("PEXPIRE", key, strconv.FormatInt(keysLive.Milliseconds(), 10)))
}

// storeBits stores a string, mostly of zeros, of at most that many bytes: half as long after each
// refusal. It returns the length that succeeded.
func (a *attackRun) storeBits(ctx context.Context, key string, most int64) (int64, error) {
	for size := most; ; size /= 2 {
		err := a.store(ctx, key, attack.Command("SETRANGE", key, strconv.FormatInt(size-1, 10), "x"))
		var refused *refusal
		if err == nil || !errors.As(err, &refused) || refused.answer.Status < 400 || refused.answer.Status >= 500 || size < 1<<20 {
			return size, err
		}
	}
}

// runAttack runs the attack; run has to return when its context ends. What the attack did to new
// clients meanwhile goes into the record. at are the nodes that the attack is expected to take
// down.
func (a *attackRun) runAttack(ctx context.Context, what string, run func(ctx context.Context), at ...string) error {
	newcomer, err := a.s.newcomer(ctx)
	if err != nil {
		return err
	}
	a.s.say("%s", what)
	a.s.recordInjection(at...)

	attacking, end := context.WithTimeout(ctx, attackLasts)
	defer end()
	looking, endLook := context.WithCancel(ctx)
	defer endLook()
	var look sync.WaitGroup
	var late lateness
	look.Go(func() { late = a.s.askAsNewcomers(looking, newcomer) })

	run(attacking)
	if err := sleep(ctx, attackSettles); err != nil {
		return err
	}
	endLook()
	look.Wait()

	if late.n > 0 {
		a.s.record.Harm = append(a.s.record.Harm, late.String())
	}
	a.s.evidence("%d new clients meanwhile, the slowest served after %d ms", late.asked, late.longest.Milliseconds())
	return nil
}

// recordMasterRemains records that the Sentinels did not replace the master. The watcher reports it
// if they did.
func (a *attackRun) recordMasterRemains(ctx context.Context) {
	st, err := a.s.stack.status(ctx)
	if err == nil && masterOf(st).Name == a.master.Name && masterOf(st).PID == a.master.PID {
		a.s.evidence("%s remained the master", a.master.Name)
	}
}

// commandCosts returns what commands have cost each Redis node so far.
func (a *attackRun) commandCosts(ctx context.Context) map[string]map[string]redis.Toll {
	return askEach(ctx, a, (*redis.Admin).Tolls)
}

// tellLimit limits how long a node may take to return its numbers: the attack's last command may
// still keep it busy.
const tellLimit = 15 * time.Second

// askEach asks each Redis node the same question. A node that does not answer within tellLimit is
// left out of the result.
func askEach[T any](ctx context.Context, a *attackRun, ask func(*redis.Admin, context.Context) (T, error)) map[string]T {
	all := map[string]T{}
	deadline := time.Now().Add(tellLimit)
	for _, n := range a.redis {
		_ = awaitEvery(ctx, askEvery, "", time.Until(deadline), func() bool { // a node that fails is left out
			asking, cancel := context.WithTimeout(ctx, lookLimit)
			defer cancel()
			answer, err := ask(a.s.stack.admin(n.Name), asking)
			if err == nil {
				all[n.Name] = answer
			}
			return err == nil
		})
	}
	return all
}

// cost returns what the attack's commands of these names have cost all Redis nodes together since
// before, and the most expensive ones in words.
func (a *attackRun) cost(ctx context.Context, names ...string) (total time.Duration, words string) {
	sum := map[string]redis.Toll{}
	for node, tolls := range a.commandCosts(ctx) {
		for _, name := range names {
			toll, before := tolls[name], a.before[node][name]
			if toll.Calls < before.Calls { // the node was restarted
				before = redis.Toll{}
			}
			sum[name] = redis.Toll{Calls: sum[name].Calls + toll.Calls - before.Calls, Took: sum[name].Took + toll.Took - before.Took}
		}
	}
	dearest := slices.SortedFunc(maps.Keys(sum), func(x, y string) int { return int(sum[y].Took - sum[x].Took) })
	var parts []string
	for i, name := range dearest {
		total += sum[name].Took
		if n := sum[name].Calls; i < 4 && n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d times in %.2f s", strings.ToUpper(name), n, sum[name].Took.Seconds()))
		}
	}
	return total, strings.Join(parts, ", ")
}

// lateness counts how new clients fared: asked of them came, n were not served in time.
type lateness struct {
	asked, n int
	longest  time.Duration
	first    string
}

func (l lateness) String() string {
	return fmt.Sprintf("%d of %d new clients were not served in time: %s", l.n, l.asked, l.first)
}

// newcomerEvery is the interval between two new clients.
const newcomerEvery = 100 * time.Millisecond

// newcomer returns a client that connects anew for each request. The clients of the load cannot
// stand for it: they keep their connections.
func (fc *faultContext) newcomer(ctx context.Context) (*attack.Client, error) {
	entry, err := fc.entry(ctx)
	if err != nil {
		return nil, err
	}
	return fc.attacker(entry, false)
}

// askAsNewcomers lets new clients come, each with one read, until the context ends. A client that
// is not served within the promised pause is late.
func (fc *faultContext) askAsNewcomers(ctx context.Context, newcomer *attack.Client) (l lateness) {
	limit := fc.record.Promise.Pause
	var mu sync.Mutex
	var clients sync.WaitGroup
	for sleep(ctx, newcomerEvery) == nil {
		at, began := fc.now(), time.Now()
		clients.Go(func() {
			asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
			defer cancel()
			got := newcomer.Do(asking, attack.Request{Path: "/v1/keys/" + fc.prefix + "newcomer"})
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			l.asked++
			l.longest = max(l.longest, took)
			if got.Err != nil || got.Status != http.StatusNotFound { // there is no such key: 404 is the right answer
				if l.n++; l.n == 1 {
					l.first = fmt.Sprintf("the one of %.1f s, after %d ms: %s", at.Seconds(), took.Milliseconds(), got)
				}
			}
		})
	}
	clients.Wait()
	return l
}
