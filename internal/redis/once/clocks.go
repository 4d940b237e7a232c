package once

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/clock"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
)

// Redis gives its replicas the end of a key's life as a time of day (redis.io, "Replication",
// expires). If a replica's clock is ahead of the master's, it considers the records of writes
// expired as soon as it is promoted, and a write that is repeated then would happen a second time.
// So the clocks of the nodes are compared, and a record lives longer by as much as the replica
// furthest ahead is. It would be of no use in memory for all that time, so the process that made
// it removes it when it has had its time.

// Times of the comparison of clocks.
const (
	// clocksEvery is how often the nodes are asked for their time, and clockTimeout how
	// long one may take.
	clocksEvery, clockTimeout = time.Second, 400 * time.Millisecond
	// clocksAgree is by how much clocks may differ without a consequence: a record lives
	// for longer than that beyond the time for which its write is tried.
	clocksAgree = time.Second
	// mostRetiring bounds the records that wait to be removed, and so the memory that they
	// take here. Those beyond it expire.
	mostRetiring = 1 << 18
	// retiredTogether is how many records one script removes or has live longer.
	retiredTogether = 500
)

// Clocks knows how far the clocks of nodes are apart. It is safe for concurrent use.
type Clocks struct {
	cfg     config.Config
	monitor *discovery.Monitor
	life    time.Duration // of a record, by a clock that is right
	began   time.Time     // local times count from here, by the clock that nobody sets

	// extra is how much longer a record has to live, in milliseconds; 0 mostly.
	extra atomic.Int64

	mu       sync.Mutex
	ahead    map[string]time.Duration // of this process' clock, by address
	retiring []retiring               // records that live longer, the oldest first

	// attempts is how long a record of a balancer's request lives. lists is what was seen of the
	// lists, by name, at the master listsAt; told is true if it was logged that they stay. These
	// belong to RunLists.
	attempts    time.Duration
	lists       map[string]recordList
	listsAt     string
	told        bool
	own, listed toMaster // of run and of RunLists
}

// retiring is a record that is removed at a time.
type retiring struct {
	record string
	due    time.Duration // since began
}

// NewClocks returns clocks of the nodes that a monitor knows. They are compared while Run runs.
func NewClocks(cfg config.Config, m *discovery.Monitor) *Clocks {
	return &Clocks{cfg: cfg, monitor: m, life: cfg.IdempotencyTTL, attempts: attemptLife(cfg), began: time.Now(), ahead: map[string]time.Duration{}}
}

// Run compares the clocks until the context ends.
func (c *Clocks) Run(ctx context.Context) {
	defer c.own.close()
	for ctx.Err() == nil {
		c.compare(ctx)
		c.retire(ctx)
		clock.Sleep(ctx, clocksEvery)
	}
}

// compare asks every node for its time.
func (c *Clocks) compare(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	var all sync.WaitGroup
	for addr, l := range c.monitor.Replying() { // what was known of the others stays
		all.Go(func() {
			asked := time.Since(c.began)
			words, err := l.Do(ctx, l.B().Time().Build()).AsStrSlice()
			if err != nil || len(words) != 2 {
				return
			}
			there := time.Unix(resp.Int(words[0]), resp.Int(words[1])*int64(time.Microsecond))
			here := c.began.Add((asked + time.Since(c.began)) / 2)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.ahead[addr] = there.Round(0).Sub(here.Round(0))
		})
	}
	all.Wait()

	before, now := c.extra.Load(), c.furthest().Milliseconds()
	c.extra.Store(now)
	if now-before > clocksAgree.Milliseconds() {
		c.lengthen(ctx, now)
	}
}

// furthest returns how far the clock of the node that is furthest ahead is ahead of the master's;
// 0: it makes no difference.
func (c *Clocks) furthest() time.Duration {
	now, _ := c.monitor.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	master, known := c.ahead[now.Master]
	if !known {
		return 0
	}
	most := time.Duration(0)
	for _, n := range now.Nodes { // those that are gone do not count
		if ahead, known := c.ahead[n.Address]; known {
			most = max(most, ahead-master)
		}
	}
	if most <= clocksAgree {
		return 0
	}
	return most + clocksAgree // it is measured to within some milliseconds
}

// RecordLife returns how long a record is to live at the master, in Redis' milliseconds; usual if
// no clock differs.
func (c *Clocks) RecordLife(usual string) string {
	if c == nil {
		return usual
	}
	extra := c.extra.Load()
	if extra == 0 {
		return usual
	}
	return strconv.FormatInt(c.life.Milliseconds()+extra, 10)
}

// Made notes a record that may have been made, to be removed when it has had its time.
func (c *Clocks) Made(record string) {
	if c == nil || c.extra.Load() == 0 || record == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.retiring) < mostRetiring {
		c.retiring = append(c.retiring, retiring{record, time.Since(c.began) + c.life})
	}
}

// retiringRecords removes records that have had their time: those that live no longer than the
// clocks differ by. A record that was renewed meanwhile lives longer.
var retiringRecords = request.NewScript(`
redis.call('SELECT', ARGV[1])
for _, rec in ipairs(KEYS) do
  local left = redis.call('PTTL', rec)
  if left >= 0 and left <= tonumber(ARGV[2]) then redis.call('UNLINK', rec) end
end
return 1`, false)

// lengtheningRecords has records that were made before a clock was set live as long as later
// ones, and returns the next cursor and the records that end by themselves.
var lengtheningRecords = request.NewScript(`
redis.call('SELECT', ARGV[1])
local page = redis.call('SCAN', ARGV[2], 'MATCH', ARGV[3], 'COUNT', ARGV[4])
local ending = {}
for _, rec in ipairs(page[2]) do
  local left = redis.call('PTTL', rec)
  if left >= 0 then ending[#ending + 1] = rec end
  if left >= 0 and left < tonumber(ARGV[5]) then redis.call('PEXPIRE', rec, left + ARGV[6]) end
end
return {page[1], ending}`, false)

// database returns the database of the records.
func (c *Clocks) database() string {
	if c.cfg.RecordDB >= 0 {
		return strconv.Itoa(c.cfg.RecordDB)
	}
	return strconv.Itoa(c.cfg.DB)
}

// toMaster is a connection to the master for scripts that write. Redis has them wait while
// writes are paused (CLIENT PAUSE), and what waits behind them on a connection waits, too:
// the monitor's questions must not, or the master would be taken for silent.
type toMaster struct{ link *conn.Client }

// to returns the connection to the present master; nil: there is no master.
func (t *toMaster) to(cfg config.Config, m *discovery.Monitor) *conn.Client {
	now, _ := m.Now()
	if t.link != nil && t.link.Address != now.Master {
		t.close()
	}
	if t.link == nil && now.Master != "" {
		t.link = cfg.ConnTo(now.Master, conn.Probing)
	}
	return t.link
}

func (t *toMaster) close() {
	if t.link != nil {
		t.link.Stop()
		t.link = nil
	}
}

// retire removes the records whose time has come. If that fails, they expire later.
func (c *Clocks) retire(ctx context.Context) {
	c.mu.Lock()
	now, n := time.Since(c.began), 0
	for n < len(c.retiring) && c.retiring[n].due <= now {
		n++
	}
	due := slices.Clone(c.retiring[:n])
	c.retiring = slices.Delete(c.retiring, 0, n)
	c.mu.Unlock()

	extra := strconv.FormatInt(c.extra.Load(), 10)
	for part := range slices.Chunk(due, retiredTogether) {
		records := make([]string, len(part))
		for i, r := range part {
			records[i] = r.record
		}
		if _, err := c.call(ctx, &c.own, retiringRecords, records, c.database(), extra); err != nil {
			return
		}
	}
}

// lengthen has the existing records live longer, because a clock was set or turned out to be
// wrong.
func (c *Clocks) lengthen(ctx context.Context, extra int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for cursor := "0"; ; {
		reply, err := c.call(ctx, &c.own, lengtheningRecords, nil, c.database(), cursor, Prefix+"*", strconv.Itoa(retiredTogether),
			strconv.FormatInt(extra, 10), strconv.FormatInt(extra, 10))
		if err != nil || len(reply) != 2 {
			return
		}
		cursor, _ = reply[0].ToString()
		records, _ := reply[1].AsStrSlice()
		for _, record := range records {
			c.Made(record)
		}
		if cursor == "0" {
			return
		}
	}
}

// callTimeout is how long the master may take for one script.
const callTimeout = 2 * time.Second

// call has the master carry a script out.
func (c *Clocks) call(ctx context.Context, by *toMaster, script *request.Script, keys []string, args ...string) (reply []rueidis.RedisMessage, err error) {
	l := by.to(c.cfg, c.monitor)
	if l == nil {
		return nil, outcome.ErrNotSent
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := l.B().Eval().Script(script.Source).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
	answer := l.Do(ctx, cmd)
	if answer.NonRedisError() != nil {
		by.close()
	}
	if answer.Error() != nil {
		return nil, answer.Error()
	}
	reply, _ = answer.ToArray() // of the script that returns one
	return reply, nil
}
