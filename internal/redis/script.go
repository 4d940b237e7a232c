package redis

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// reservedPrefix starts the keys that are Holdfast's own.
const reservedPrefix = "\x00holdfast\x00"

// idemPrefix starts the records of writes with an idempotency key.
const idemPrefix = reservedPrefix + "idem\x00"

// Script is a Lua script of this program's own.
type Script struct {
	source, sha string
	readOnly    bool
}

// NewScript makes a script of the body of a Lua function of KEYS and ARGV,
// which may write. An error before its first write has to mean that nothing
// happened, and no error may come after it.
func NewScript(body string) *Script {
	return newScript("local function body(KEYS, ARGV)\n"+body+"\nend\n"+recording+`
local keys, args = {}, {}
for i = 2, #KEYS do keys[i - 1] = KEYS[i] end
for i = 4, #ARGV do args[i - 3] = ARGV[i] end
return recorded(function() return body(keys, args) end)`, false)
}

// NewReadScript makes a script that only reads.
func NewReadScript(body string) *Script { return newScript(body, true) }

func newScript(source string, readOnly bool) *Script {
	sum := sha1.Sum([]byte(source))
	return &Script{source, hex.EncodeToString(sum[:]), readOnly}
}

// recording carries a write out once. KEYS[1] is the write's record (empty:
// none is kept), ARGV[1] how long it lives (milliseconds), ARGV[2] the database
// of the records and ARGV[3] that of the data (both empty: the same).
//
// The record is the first write, so that what keeps a script from writing
// (read-only, too few replicas, out of memory: Redis 7.0, script.c) leaves
// nothing behind, and what comes after it cannot fail for those reasons. It
// holds the answer; empty stands for OK, the most frequent one. A repetition
// writes too: the WAIT behind it then covers the replication stream up to here,
// with the first attempt in it.
const recording = `
local rec, ttl, recdb, datadb = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local function recorded(body)
  if rec == '' then return body() end
  if recdb ~= '' then redis.call('SELECT', recdb) end
  if not redis.call('SET', rec, '', 'NX', 'PX', ttl) then
    local kept = redis.call('GET', rec)
    redis.call('PEXPIRE', rec, ttl)
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
    redis.call('SET', rec, cmsgpack.pack(r), 'PX', ttl)
  end
  return r
end
`

// once carries out the command ARGV[4...] with a record. Lua's numbers are
// exact up to 2^53: a counter beyond is read again as text (see Reply.number).
var once = newScript(recording+`
return recorded(function()
  local r = redis.pcall(unpack(ARGV, 4))
  if type(r) == 'number' and (r >= 9007199254740992 or r <= -9007199254740992) then
    local name = string.upper(ARGV[4])
    if name == 'HINCRBY' then return redis.call('HGET', ARGV[5], ARGV[6]) end
    if name == 'INCR' or name == 'DECR' or name == 'INCRBY' or name == 'DECRBY' then return redis.call('GET', ARGV[5]) end
  end
  return r
end)`, false)

// counts says that a command answers a counter's value: see once.
func counts(name string) bool {
	switch strings.ToUpper(name) {
	case "INCR", "DECR", "INCRBY", "DECRBY", "HINCRBY":
		return true
	}
	return false
}

// maxScriptArgs is how many arguments a command may have that a script of ours
// carries out: Lua unpacks about 8,000 (LUAI_MAXCSTACK).
const maxScriptArgs = 7000

// run is the call of a script on this session.
func (s *session) run(script *Script, record string, keys, args []string) rueidis.Completed {
	b := s.conn.B()
	n := int64(len(keys))
	if !script.readOnly {
		n++
	}
	var c rueidis.Completed
	head := [3]string{s.w.ttl, s.w.recordDB, s.w.dataDB}
	if !s.loaded[script] {
		s.loaded[script] = true
		e := b.Eval().Script(script.source).Numkeys(n)
		switch {
		case script.readOnly && n == 0:
			c = e.Arg(args...).Build()
		case script.readOnly:
			c = e.Key(keys...).Arg(args...).Build()
		default:
			c = e.Key(record).Key(keys...).Arg(head[:]...).Arg(args...).Build()
		}
		return c
	}
	e := b.Evalsha().Sha1(script.sha).Numkeys(n)
	switch {
	case script.readOnly && n == 0:
		c = e.Arg(args...).Build()
	case script.readOnly:
		c = e.Key(keys...).Arg(args...).Build()
	default:
		c = e.Key(record).Key(keys...).Arg(head[:]...).Arg(args...).Build()
	}
	return c
}

// forget has a script sent whole the next time: Redis has lost it (SCRIPT
// FLUSH).
func (s *session) forget(script *Script) { delete(s.loaded, script) }

func isNoScript(err error) bool {
	reply, ok := rueidis.IsRedisErr(err)
	return ok && reply.IsNoScript()
}

// recordKey names the record of a request. Each part is hashed with its
// length, so that no two requests share a record.
func recordKey(idempotencyKey string, r *Request) string {
	h := sha256.New()
	part := func(p string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	part(idempotencyKey)
	if r.Script != nil {
		part(r.Script.sha)
		for _, k := range r.Keys {
			part(k)
		}
		part("")
		for _, a := range r.Args {
			part(a)
		}
	}
	for _, cmd := range r.Commands {
		part("")
		for _, a := range cmd {
			part(a)
		}
	}
	return idemPrefix + string(h.Sum(nil)[:20])
}

// itemRecord names the record of one command of a pipeline.
func itemRecord(record string, i int) string {
	if i == 0 {
		return record
	}
	return record + strconv.Itoa(i)
}
