// Package once has what makes a write with an idempotency key happen once: the names and forms of
// the records that are kept beside the data, the Lua scripts that carry writes out together with
// their records, and the removal of records that have had their time. Sending those scripts is the
// work of the group commit.
package once

import (
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/request"
)

// Prefix begins the names of the records of writes with an idempotency key.
const Prefix = command.ReservedPrefix + "idem\x00"

// NewScript returns a script with the body of a Lua function of KEYS and ARGV, which may write.
// An error before its first write has to mean that nothing happened, and no error may come after
// it.
func NewScript(body string) *request.Script { return newWritingScript(body, "false") }

// NewFreeingScript returns a script that writes and needs no memory, such as one that deletes.
// Redis carries it out even when its memory is full.
func NewFreeingScript(body string) *request.Script { return newWritingScript(body, "true") }

func newWritingScript(body, frees string) *request.Script {
	return request.NewScript("local function body(KEYS, ARGV)\n"+body+"\nend\n"+recording+`
local keys, args = {}, {}
for i = 2, #KEYS do keys[i - 1] = KEYS[i] end
for i = 4, #ARGV do args[i - 3] = ARGV[i] end
return recorded(function() return body(keys, args) end, `+frees+`)`, false)
}

// NewReadScript returns a script that only reads.
func NewReadScript(body string) *request.Script { return request.NewScript(body, true) }

// renewing makes a record live longer, if Redis takes writes. So a repetition writes, too,
// and the WAIT behind it covers the replication stream up to here, with the first attempt
// in it (as it mostly does anyway: see writer). If Redis takes no writes now (too few
// replicas, a full disk), the repetition still gets the first answer: otherwise its client
// would be told "not executed". A read-only node is no master any more, and its record does
// not count: that is the error.
const renewing = `
local function renew(rec, ttl)
  local r = redis.pcall('PEXPIRE', rec, ttl)
  if type(r) == 'table' and r.err and string.find(r.err, 'READONLY', 1, true) then return r end
end
`

// keeping makes the record of an answer: packed(r). The record has the answer itself if it
// is short (MaxKeptBytes, MaxKeptElements). Of a long answer it has only goneWords: the
// answer would take its length once more in Redis' memory, at each replica and on disk.
const keeping = `
local bytes, elements
local function weigh(r)
  elements = elements - 1
  if type(r) == 'string' then
    bytes = bytes - #r
  elseif type(r) == 'table' then
    for _, e in ipairs(r) do weigh(e) end
  end
end
local function short(r)
  bytes, elements = ` + keptBytes + `, ` + keptElements + `
  weigh(r)
  return bytes >= 0 and elements >= 0
end
local function packed(r)
  if not short(r) then r = {err = '` + goneWords + `'} end
  return cmsgpack.pack(r)
end
`

// goneWords are the error, as if from Redis, of a repetition of a write whose answer was
// not kept.
const goneWords = "HFGONE the request was carried out before, and its answer is gone"

// IsGone reports whether a refusal has goneWords.
func IsGone(err error) bool {
	reply, ok := rueidis.IsRedisErr(err)
	return ok && reply.Error() == goneWords
}

// recording carries a write out once. KEYS[1] is the write's record (empty: no record is
// kept). ARGV[1] is how long it lives, in milliseconds (empty: no record is kept, and
// KEYS[1] is some key that is there anyway). ARGV[2] is the database of the records and
// ARGV[3] that of the data (both empty: it is the same one).
//
// The record is the first write. So what keeps a script from writing (read-only, too few
// replicas, out of memory: Redis 7.0, script.c) leaves nothing behind, and what comes after the
// record cannot fail for those reasons. The record holds the answer; empty stands for OK, the
// most frequent one.
//
// When its memory is full, Redis still carries out what frees memory (DEL), and the record
// must not prevent that. Redis checks its memory only before a script's first write
// (script.c, scriptVerifyOOM), so that is then a write that needs none: PEXPIRE.
const recording = renewing + keeping + `
local rec, ttl, recdb, datadb = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local function recorded(body, frees)
  if rec == '' or ttl == '' then return body() end
  if recdb ~= '' then redis.call('SELECT', recdb) end
  if frees then redis.pcall('PEXPIRE', rec, ttl) end
  local first = redis.pcall('SET', rec, '', 'NX', 'PX', ttl)
  if not first or first.err then
    local kept = redis.call('GET', rec)
    if not kept then return first end
    local gone = renew(rec, ttl)
    if gone then return gone end
    if kept == '' then return redis.status_reply('OK') end
    return cmsgpack.unpack(kept)
  end
  if recdb ~= '' then redis.call('SELECT', datadb) end
  local ok, r = pcall(body)
  if not ok and type(r) ~= 'table' then r = redis.error_reply(tostring(r)) end
  if type(r) == 'table' and r.err then
    if recdb ~= '' then redis.call('SELECT', recdb) end
    redis.call('DEL', rec)
    return r
  end
  if not (type(r) == 'table' and r.ok == 'OK') then
    if recdb ~= '' then redis.call('SELECT', recdb) end
    redis.call('SET', rec, packed(r), 'PX', ttl)
  end
  return r
end
`

// carrying carries out the command ARGV[from...to]. Lua's numbers are exact up to 2^53, so
// a counter beyond that is read again as text (see resp.FromScript), by the command that
// exact returns. It raises no error, because other commands of the same call are carried
// out by then. A client that may count but not read gets a rounded number.
const carrying = `
local function exact(from)
  local name = string.upper(ARGV[from])
  if name == 'HINCRBY' then return {'HGET', ARGV[from + 1], ARGV[from + 2]} end
  if name == 'INCR' or name == 'DECR' or name == 'INCRBY' or name == 'DECRBY' then return {'GET', ARGV[from + 1]} end
end
local function carried(from, to)
  local r = redis.pcall(unpack(ARGV, from, to))
  if type(r) == 'number' and (r >= 9007199254740992 or r <= -9007199254740992) then
    local again = exact(from)
    local text = again and redis.pcall(unpack(again))
    if type(text) == 'string' then return text end
  end
  return r
end
`

// Each carries commands out, each with a record of its own, as recording does for one.
// KEYS are the records. Behind the first four of ARGV comes each command, after its length.
// ARGV[4] is how many commands, the first ones, may need memory: the others are carried out
// even when it is full. One call for many commands costs a fraction of many calls: at the
// master, and also at the replicas, because it changes the database only twice.
var Each = request.NewScript(each, false)

const each = renewing + keeping + carrying + `
local call, ttl, recdb, datadb, growing = redis.call, ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local out, place, same, mine, at = {}, {}, {}, {}, 5
if recdb ~= '' then call('SELECT', recdb) end
for i = 1, #KEYS do
  local rec = KEYS[i]
  if i == growing + 1 then redis.pcall('PEXPIRE', rec, ttl) end -- see recording
  local first = not mine[rec] and redis.pcall('SET', rec, '', 'NX', 'PX', ttl)
  if mine[rec] then
    same[i] = mine[rec]
  elseif first and not first.err then
    mine[rec], place[i] = i, at
  else
    local kept = call('GET', rec)
    out[i] = not kept and first or renew(rec, ttl)
    if out[i] then -- it is refused
    elseif kept == '' then out[i] = redis.status_reply('OK')
    else out[i] = cmsgpack.unpack(kept) end
  end
  at = at + 1 + ARGV[at]
end
if recdb ~= '' then call('SELECT', datadb) end
local keep = {}
for i = 1, #KEYS do
  local p = place[i]
  if p then
    local r = carried(p + 1, p + ARGV[p])
    if type(r) ~= 'table' or r.ok ~= 'OK' then
      keep[#keep + 1] = i
    end
    out[i] = r
  end
end
if #keep > 0 then
  if recdb ~= '' then call('SELECT', recdb) end
  for _, i in ipairs(keep) do
    local r = out[i]
    if type(r) == 'table' and r.err then
      call('DEL', KEYS[i])
    else
      call('SET', KEYS[i], packed(r), 'PX', ttl)
    end
  end
end
for i, j in pairs(same) do out[i] = out[j] end
return out`

// AppendSized appends the length of a command, and the command.
func AppendSized(args []string, cmd command.Command) []string {
	return append(append(args, strconv.Itoa(len(cmd))), cmd...)
}

// Counts reports whether a command returns a counter's value: see carrying.
func Counts(name string) bool {
	switch strings.ToUpper(name) {
	case "INCR", "DECR", "INCRBY", "DECRBY", "HINCRBY":
		return true
	}
	return false
}

// MaxScriptArgs is how many arguments a command may have that a script of ours carries
// out: Lua can unpack about 8,000 (LUAI_MAXCSTACK).
const MaxScriptArgs = 7000

// IsNoScript reports whether Redis refused a script because it does not have its text.
func IsNoScript(err error) bool {
	reply, ok := rueidis.IsRedisErr(err)
	return ok && reply.IsNoScript()
}

// InCluster is Each for one command, ARGV[4...]. Behind the record, KEYS has the command's own:
// while a slot is on its way, Redis judges by them what of it is where. Several commands are several
// calls, each in its own slot. FreeingInCluster is for a command that takes no memory: see recording.
var (
	InCluster = request.NewScript(recording+carrying+`
return {recorded(function() return carried(4, #ARGV) end)}`, false)
	FreeingInCluster = request.NewScript(recording+carrying+`
return {recorded(function() return carried(4, #ARGV) end, true)}`, false)
)
