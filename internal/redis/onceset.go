package redis

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Most writes through a balancer are plain SETs, each with a key of the balancer's
// (Request.Attempt). A record with a time to live costs more than the SET itself: a
// command at the master, one at each replica, and later the same for its end, since
// Redis removes each key by a command of its own. So the records of a whole batch are
// made by one command (MSETNX) without a time to live, as the values are set by one
// (MSET), and are removed together: their names stand in a list, which is made in the
// same transaction and so is wherever they are.
//
// A record of this kind is what it is to a node of an earlier version, and the other
// way round: it has the same name, and its value is the same.
//
// There are recordLists lists, and those who write go on to the next one from time to
// time, by the master's clock. When nothing was added to a list for as long as a record
// lives, by the clock of whoever looks, which nobody sets, all of its records have had
// their time. Every process looks, so that no record stays when the one that made it
// ends. Clocks of Redis decide nothing: they name the list, and no more.

// recordLists is how many lists there are: those that are written take half of them
// within the life of a record.
const recordLists = 32

// retiredList is how many records one script removes, about.
const retiredList = 256

// hashSize is how long a record's own part of its name is.
const hashSize = 20

// onceSets carries plain SETs out, each with a record of its own, as once does. ARGV
// are the three of recording, idemPrefix, the hashes of the records, how many
// milliseconds a list is written, and the keys with their values. It returns one OK for all of
// them, if none was carried out before and nothing is refused. Otherwise once's way
// follows, by which each gets its own answer: nothing is done then but a list's entry,
// whose records are made by the other way.
//
// Redis looks at the memory and the replicas before a script's first write alone, so
// what comes after the list's entry is not refused for want of them.
var onceSets = newScript(`
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
    local list = prefix .. 'made' .. math.floor((now[1] * 1000 + now[2] / 1000) / ARGV[6]) % `+strconv.Itoa(recordLists)+`
    local noted = try('RPUSH', list, hashes)
    if type(noted) == 'number' then made = try('MSETNX', unpack(recs)) end
  end
  if made == 1 then
    if recdb ~= '' then call('SELECT', datadb) end
    local r = try('MSET', unpack(ARGV, 7))
    if not r.err then return r end
    if recdb ~= '' then call('SELECT', recdb) end
    for i = 1, n do call('DEL', recs[2 * i - 1]) end
  end
  local each = {ARGV[1], recdb, datadb, n}
  for i = 1, n do
    KEYS[i] = recs[2 * i - 1]
    local at = #each
    each[at + 1], each[at + 2], each[at + 3], each[at + 4] = 3, 'SET', ARGV[5 + 2 * i], ARGV[6 + 2 * i]
  end
  ARGV = each
end
`+onceEach, false)

// plainSet reports whether an operation is one for onceSets.
func (o *operation) plainSet() bool {
	return o.attempt && len(o.cmds[0]) == 3 && strings.EqualFold(o.cmds[0][0], "set") && len(o.record) == len(idemPrefix)+hashSize
}

// encodeSets appends those of the single commands that are plain SETs, many to a call.
// It returns the others.
func (s *session) encodeSets(cmds rueidis.Commands, shares []allowance, singles []*operation) (_ rueidis.Commands, _ []allowance, others []*operation) {
	if s.w.clocks == nil { // nobody removes the records
		return cmds, shares, singles
	}
	n := 0
	for i, o := range singles {
		if o.plainSet() {
			singles[n], singles[i] = o, singles[n]
			n++
		}
	}
	for ops := range slices.Chunk(singles[:n], maxSingles) {
		args := s.head(3 + 2*len(ops))
		hashes := make([]byte, 0, hashSize*len(ops))
		for i, o := range ops {
			o.first, o.count, o.place = len(cmds), 1, i
			hashes = append(hashes, o.record[len(idemPrefix):]...)
			s.w.clocks.made(o.record)
		}
		args = append(args, idemPrefix, string(hashes), s.w.clocks.listSpan())
		for _, o := range ops {
			args = append(args, o.cmds[0][1], o.cmds[0][2])
		}
		cmds = append(cmds, s.call(onceSets, nil, args))
		shares = append(shares, allowance{replies: 1, framed: true, each: true, budget: ops[0].budget, always: true})
	}
	return cmds, shares, singles[n:]
}

// listSpan is how long a list is written, in milliseconds.
func (c *clocks) listSpan() string {
	return strconv.FormatInt(max(1, (c.life/(recordLists/2)).Milliseconds()), 10)
}

// recordList is what was last seen of a list: how long it is, its last record, and since
// when, as time since clocks.began.
type recordList struct {
	length string
	last   string
	since  time.Duration
}

// lookAtLists returns of each list how long it is and its last record.
var lookAtLists = newScript(`
redis.call('SELECT', ARGV[1])
local out = {}
for i = 0, `+strconv.Itoa(recordLists-1)+` do
  local list = ARGV[2] .. 'made' .. i
  local last = redis.call('LINDEX', list, -1) or ''
  out[2 * i + 1], out[2 * i + 2] = tostring(redis.call('LLEN', list)), string.sub(last, -20)
end
return out`, false)

// retireList removes records at the beginning of a list, if it is still as long and ends
// as it did, and returns how long it is then.
var retireList = newScript(`
redis.call('SELECT', ARGV[1])
local prefix, list, left = ARGV[2], ARGV[2] .. 'made' .. ARGV[3], tonumber(ARGV[4])
if redis.call('LLEN', list) ~= left or string.sub(redis.call('LINDEX', list, -1) or '', -20) ~= ARGV[5] then return {} end
local gone = {}
while left > 0 and #gone < `+strconv.Itoa(retiredList)+` do
  local hashes = redis.call('LPOP', list)
  left = left - 1
  for at = 1, #hashes, 20 do gone[#gone + 1] = prefix .. string.sub(hashes, at, at + 19) end
end
if #gone > 0 then redis.call('UNLINK', unpack(gone)) end
return {tostring(left)}`, false)

// runLists removes records until the context ends.
func (c *clocks) runLists(ctx context.Context) {
	defer c.listed.close()
	for ctx.Err() == nil {
		c.retireLists(ctx)
		pause(ctx, clocksEvery)
	}
}

// retireLists removes the records of the lists that have had their time. What fails is
// done later, or by another process.
func (c *clocks) retireLists(ctx context.Context) {
	seen, err := c.call(ctx, &c.listed, lookAtLists, nil, c.database(), idemPrefix)
	if err != nil || len(seen) != 2*recordLists {
		return
	}
	now := time.Since(c.began)
	for i := range c.lists {
		l := &c.lists[i]
		length, _ := seen[2*i].ToString()
		last, _ := seen[2*i+1].ToString()
		if length != l.length || last != l.last {
			*l = recordList{length, last, now}
		}
		for l.length != "0" && now-l.since >= c.life {
			left, err := c.call(ctx, &c.listed, retireList, nil, c.database(), idemPrefix, strconv.Itoa(i), l.length, l.last)
			if err != nil {
				return
			}
			if len(left) == 0 { // another process is at it, or somebody writes
				*l = recordList{}
				break
			}
			l.length, _ = left[0].ToString()
		}
	}
}
