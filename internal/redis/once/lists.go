package once

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/clock"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/request"
)

// Most writes through a balancer are plain SETs, each with a key of the balancer's
// (Request.Attempt). A record with a time to live costs more than the SET itself: a command at the
// master, one at each replica, and later the same for its end, since Redis removes each key by a
// command of its own. So the records of a whole batch are made by one command (MSETNX) without a
// time to live, as the values are set by one (MSET), and are removed together. Their names stand
// in a list, which is made in the same transaction and so is wherever they are.
//
// A node of an earlier version can read a record of this kind, and the other way round: it has the
// same name and the same value.
//
// There are recordLists lists for each life of a record, which is in their names: nodes that hold
// requests for different times may share a Redis. Writers go on to the next list from time to time,
// by the master's clock. If nothing was added to a list for as long as its records live, all of
// them have had their time. Each process looks for such lists, and measures by its own monotonic
// clock, so no record stays when the process that made it ends. Clocks of Redis decide nothing:
// they only name the list.

// recordLists is how many lists there are: those that are written take half of them
// within the life of a record.
const recordLists = 32

// balancerSends is for how long a balancer may still send a request that it has sent before, and a
// margin: a node refuses one that a balancer got more than 20 s ago (package web, maxAge). A node
// that has it may hold it for Config.Hold after that.
const balancerSends = 25 * time.Second

// attemptLife returns how long a record of a balancer's request lives.
func attemptLife(cfg config.Config) time.Duration {
	return min(cfg.IdempotencyTTL, balancerSends+cfg.Hold)
}

// retiredList is how many records one script removes, about.
const retiredList = 256

// HashSize is how many bytes of a record's name are its own.
const HashSize = 20

// PlainSets carries plain SETs out, each with a record of its own, as once does. ARGV are the three
// of recording, Prefix, the hashes of the records, for how many milliseconds a list is written
// and its records live, and the keys with their values. It returns one OK for all of them, if none
// was carried out before and nothing is refused. Otherwise each command gets its own answer, as by
// once: then only an entry of a list was made, and once makes its records.
//
// Redis checks the memory and the replicas only before a script's first write, so what comes after
// the list's entry is not refused for want of them.
var PlainSets = request.NewScript(`
local KEYS, ARGV = {}, ARGV
do
  local call, try, prefix, hashes = redis.call, redis.pcall, ARGV[4], ARGV[5]
  local recdb, datadb, n = ARGV[2], ARGV[3], #hashes / 20
  local recs = {}
  for i = 1, n do
    recs[2 * i - 1], recs[2 * i] = prefix .. string.sub(hashes, 20 * i - 19, 20 * i), ''
  end
  if recdb ~= '' then call('SELECT', recdb) end
  local now, made = try('TIME'), 0
  if not now.err then
    local list = prefix .. 'made' .. ARGV[7] .. ':' .. math.floor((now[1] * 1000 + now[2] / 1000) / ARGV[6]) % `+strconv.Itoa(recordLists)+`
    local noted = try('RPUSH', list, hashes)
    if noted == 1 and type(try('SADD', prefix .. 'lives', ARGV[7])) ~= 'number' then
      try('DEL', list)
      noted = nil
    end
    if type(noted) == 'number' then made = try('MSETNX', unpack(recs)) end
  end
  if made == 1 then
    if recdb ~= '' then call('SELECT', datadb) end
    local r = try('MSET', unpack(ARGV, 8))
    if not r.err then return r end
    if recdb ~= '' then call('SELECT', recdb) end
    for i = 1, n do call('DEL', recs[2 * i - 1]) end
  end
  local each = {ARGV[1], recdb, datadb, n}
  for i = 1, n do
    KEYS[i] = recs[2 * i - 1]
    local at = #each
    each[at + 1], each[at + 2], each[at + 3], each[at + 4] = 3, 'SET', ARGV[6 + 2 * i], ARGV[7 + 2 * i]
  end
  ARGV = each
end
`+each, false)

// UsesLists reports whether plain SETs get records without a time to live. If c is nil, nobody
// would remove them. If the clocks differ, records that are made the other way live longer.
func (c *Clocks) UsesLists() bool { return c != nil && c.extra.Load() == 0 }

// ListSpan returns how long a list is written, in milliseconds.
func (c *Clocks) ListSpan() string {
	return strconv.FormatInt(max(1, (c.attempts/(recordLists/2)).Milliseconds()), 10)
}

// ListLife returns how long the records of this process' lists live, in milliseconds.
func (c *Clocks) ListLife() string { return strconv.FormatInt(c.attempts.Milliseconds(), 10) }

// recordList is what was last seen of a list: how long it is, its last record, and since
// when, as time since clocks.began.
type recordList struct {
	length string
	last   string
	since  time.Duration
}

// lookAtLists returns of each list that there is its name, how long it is and its last
// record. It forgets a life of which there is no list: the process that makes one names it again.
var lookAtLists = request.NewScript(`
redis.call('SELECT', ARGV[1])
local prefix, out = ARGV[2], {}
for _, life in ipairs(redis.call('SMEMBERS', prefix .. 'lives')) do
  local some = false
  for i = 0, `+strconv.Itoa(recordLists-1)+` do
    local name = life .. ':' .. i
    local length = redis.pcall('LLEN', prefix .. 'made' .. name)
    if type(length) == 'number' and length > 0 then
      some = true
      out[#out + 1] = name
      out[#out + 1] = tostring(length)
      out[#out + 1] = string.sub(redis.call('LINDEX', prefix .. 'made' .. name, -1), -20)
    end
  end
  if not some then redis.pcall('SREM', prefix .. 'lives', life) end
end
return out`, false)

// retireList removes records at the beginning of a list, if it is still as long and ends
// as it did, and returns how long it is then. The records go before their names do.
var retireList = request.NewScript(`
redis.call('SELECT', ARGV[1])
local prefix, list, left = ARGV[2], ARGV[2] .. 'made' .. ARGV[3], tonumber(ARGV[4])
if redis.call('LLEN', list) ~= left or string.sub(redis.call('LINDEX', list, -1) or '', -20) ~= ARGV[5] then return {} end
local gone, at = {}, 0
while at < left and #gone < `+strconv.Itoa(retiredList)+` do
  local hashes = redis.call('LINDEX', list, at)
  at = at + 1
  for from = 1, #hashes, 20 do gone[#gone + 1] = prefix .. string.sub(hashes, from, from + 19) end
end
if #gone > 0 then redis.call('UNLINK', unpack(gone)) end
redis.call('LTRIM', list, at, -1)
return {tostring(left - at)}`, false)

// RunLists removes records until the context ends.
func (c *Clocks) RunLists(ctx context.Context) {
	defer c.listed.close()
	for ctx.Err() == nil {
		c.retireLists(ctx)
		clock.Sleep(ctx, clocksEvery)
	}
}

// retireLists removes the records of the lists that have had their time. What fails is
// done later, or by another process.
func (c *Clocks) retireLists(ctx context.Context) {
	if now, _ := c.monitor.Now(); now.Master != c.listsAt {
		// A list of another master may look the same, and be younger.
		c.lists, c.listsAt = map[string]recordList{}, now.Master
	}
	seen, err := c.call(ctx, &c.listed, lookAtLists, nil, c.database(), Prefix)
	if err != nil || len(seen)%3 != 0 {
		c.cannotRetire(err)
		return
	}
	now, there := time.Since(c.began), map[string]recordList{}
	for ; len(seen) > 0; seen = seen[3:] {
		name, _ := seen[0].ToString()
		l := recordList{since: now}
		l.length, _ = seen[1].ToString()
		l.last, _ = seen[2].ToString()
		if was, known := c.lists[name]; known && was.length == l.length && was.last == l.last {
			l.since = was.since
		}
		there[name] = l
	}
	c.lists = there
	for name, l := range there {
		milliseconds, _, _ := strings.Cut(name, ":")
		life, err := strconv.ParseInt(milliseconds, 10, 64)
		if err != nil || now-l.since < time.Duration(life)*time.Millisecond {
			continue
		}
		for l.length != "0" {
			left, err := c.call(ctx, &c.listed, retireList, nil, c.database(), Prefix, name, l.length, l.last)
			if err != nil {
				c.cannotRetire(err)
				break
			}
			if len(left) == 0 { // another process is at it, or somebody writes
				break
			}
			l.length, _ = left[0].ToString()
			c.lists[name] = l
		}
	}
}

// cannotRetire says once that Redis refuses to remove records.
func (c *Clocks) cannotRetire(err error) {
	if _, refused := rueidis.IsRedisErr(err); refused && !c.told {
		c.told = true
		c.cfg.Logger.Warn("Redis refuses to remove the records of what was carried out: they stay, and take memory", "error", err)
	}
}
