package redis

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/outcome"
)

// A transaction with an idempotency key is one call of a script of ours, where
// its commands can be that: its record, what it does and its answer are then
// one write, and whichever master has any of it has all. EXEC cannot write its
// own answer down, and so takes a second trip (see guard.go), before which a
// master may die.
//
// A script is not EXEC. EXEC turns a transaction down as a whole when one of its
// commands cannot be; a script learns it in the midst, when others are done. So
// what cannot be is found before: by the command table (see carriable), and
// what that does not know, the rights of our user above all, by the script's
// first half, which only asks. Everything doubtful takes the two trips, so that
// the words of a refusal are EXEC's own.

// answersForm begins the record of such a transaction. Those of guard.go, which
// have the same name, are empty or begin with seven bytes of the client
// library's that are zero; and to a program that knows only those this is no
// record that it can read (a type that is none, of a length that is too great),
// which it says.
const answersForm = "holdfast script:"

// Answers to a request that are longer together, or have more elements, are not kept in
// its record.
const (
	maxKeptBytes    = 256 << 10
	maxKeptElements = 10000

	keptBytes, keptElements = "262144", "10000" // the same, for a script
)

// whole carries a transaction out: KEYS[1] is its record; behind the first
// three of ARGV, which are those of recording, stands each command, its length
// first. In a cluster the commands' own keys stand in KEYS, too: see
// onceInCluster. It answers an array of the answers, or a record that is not of this
// form, or a number: the transaction is none for a script, and nothing was done.
//
// The record is the first write, for the reason that recording gives. An error
// that is raised behind it would be taken for a refusal, and nothing is known to
// raise one: it would be told as a record without an answer. So is the
// repetition of one whose answers are too long to be kept. redis.pcall gives
// Redis' words as they are, where an error that is raised ends in the script's
// name and line.
var whole = newScript(renewing+keeping+carrying+`
local rec, ttl, recdb, datadb = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local form = '`+answersForm+`'
local check = redis.acl_check_cmd
if not check then return 0 end -- Redis before 7.0
local function may(...)
  local ok, allowed = pcall(check, ...) -- it raises an error when there is no such command
  return ok and allowed
end
if recdb ~= '' and redis.pcall('SELECT', recdb).err then return 0 end
local kept = redis.pcall('GET', rec)
if type(kept) == 'table' then return 0 end
if kept then
  local gone = renew(rec, ttl)
  if gone then return gone end
  if string.sub(kept, 1, #form) ~= form then return kept end
  return cmsgpack.unpack(string.sub(kept, #form + 1))
end
if not may('SET', rec, '', 'PX', ttl) then return 0 end
local at = 4
while at <= #ARGV do
  local from, to = at + 1, at + ARGV[at]
  if not may(unpack(ARGV, from, to)) then return 0 end
  local again = exact(from)
  if again and not may(unpack(again)) then return 0 end
  at = to + 1
end
local first = redis.pcall('SET', rec, '', 'PX', ttl)
if first.err then return first end
local out, n = {}, 0
local ok = pcall(function()
  if recdb ~= '' then redis.call('SELECT', datadb) end
  at = 4
  while at <= #ARGV do
    local to = at + ARGV[at]
    n = n + 1
    out[n] = carried(at + 1, to)
    at = to + 1
  end
  if not short(out) then return end
  if recdb ~= '' then redis.call('SELECT', recdb) end
  redis.pcall('SET', rec, form .. cmsgpack.pack(out), 'PX', ttl)
end)
if not ok then return '' end
return out`, false)

// maxWhole is how many commands a transaction may have that a script carries
// out. Everybody waits for EXEC and for a script alike until they are done, but
// a script's answers are made twice.
const maxWhole = 1024

// carriableNames are the commands that such a script may carry out. Redis would not
// turn them down before EXEC, they do in a script what they do otherwise, and
// their answers pass through Lua unchanged: none has an integer that may be
// beyond 2^53, but for the counters, which are read again as text, and times to
// live, which are so long 285,000 years ahead. And the answers are short, as
// many elements as the command has arguments at most: Redis makes those of a
// script twice and the record a third time, all the while for nobody else, and
// half a million elements take longer than Sentinels wait for a master.
var carriableNames = command.SetOf(
	"ping", "echo", "time", "publish", "dbsize",
	"del", "unlink", "exists", "type", "touch", "rename", "renamenx", "copy", "persist",
	"expire", "pexpire", "expireat", "pexpireat", "ttl", "pttl",
	"object|encoding", "object|freq", "object|idletime", "object|refcount", "memory|usage",
	"set", "setnx", "setex", "psetex", "get", "getset", "getdel", "getex", "mget", "mset", "msetnx",
	"append", "strlen", "setrange", "getrange", "substr", "incr", "incrby", "incrbyfloat", "decr", "decrby",
	"setbit", "getbit", "bitcount", "bitpos", "bitop", "pfadd", "pfcount", "pfmerge",
	"hexpire", "hpexpire", "hexpireat", "hpexpireat", "hpersist", "httl", "hpttl", "hexpiretime", "hpexpiretime", "hgetdel", "hgetex", "hsetex",
	"hset", "hsetnx", "hmset", "hget", "hmget", "hdel", "hlen", "hexists", "hstrlen", "hincrby", "hincrbyfloat",
	"lpush", "rpush", "lpushx", "rpushx", "lpop", "rpop", "llen", "lindex", "lset", "ltrim", "lrem", "linsert", "lmove", "rpoplpush", "lpos",
	"sadd", "srem", "smove", "spop", "scard", "sismember", "smismember", "sintercard", "sinterstore", "sunionstore", "sdiffstore",
	"zadd", "zrem", "zincrby", "zcard", "zcount", "zlexcount", "zscore", "zmscore", "zrank", "zrevrank", "zpopmin", "zpopmax",
	"zremrangebyrank", "zremrangebyscore", "zremrangebylex", "zrangestore", "zinterstore", "zunionstore", "zdiffstore", "zintercard",
	"xadd", "xlen", "xdel", "xtrim", "xack", "xsetid",
	"xgroup|create", "xgroup|createconsumer", "xgroup|delconsumer", "xgroup|destroy", "xgroup|setid",
	"geoadd", "geodist", "geopos", "geohash", "geosearchstore",
)

// maxPopped is how many elements one of them may ask for by a number.
const maxPopped = 1000

// carriable says that this very command can be part of a transaction in a
// script. In a cluster its keys have to be known: a script names them all
// beforehand.
func carriable(s *Spec, cmd Command, inCluster bool) bool {
	if s == nil || s.Old || !carriableNames[s.Name] || s.Module || s.NoScript || len(cmd) >= maxScriptArgs {
		return false
	}
	switch s.Name {
	case "lpop", "rpop", "spop", "zpopmin", "zpopmax":
		if len(cmd) > 2 {
			if count, err := strconv.Atoi(cmd[2]); err != nil || count > maxPopped {
				return false
			}
		}
	case "lpos":
		if len(cmd) > 3 { // COUNT 0 is all
			return false
		}
	}
	if inCluster {
		if _, known := s.Keys(cmd); !known {
			return false
		}
	}
	return s.Takes(cmd)
}

// errNoScript ends an attempt by a script at a transaction that is none for a
// script. Nobody but byExec is to see it: the writer that tried does not go on,
// since others wait for it.
var errNoScript = errors.New("the transaction is none for a script")

// byExec has such a transaction take the two trips, within the time that it has
// left. It answers as do does.
func (w *writer) byExec(ctx context.Context, o *operation) (over bool, err error) {
	o.guarded = true
	o.expired.Store(false)
	o.state.Store(queued)
	ctx, cancel := context.WithDeadline(ctx, o.until)
	defer cancel()
	over, err = w.do(ctx, o)
	if kind := KindOf(err); o.sent && (kind == NotExecuted || kind == Overloaded) {
		err = &Error{Kind: Unknown, Cause: err} // this attempt did not happen; one before it may have
	}
	return over, err
}

// aboutScript says that a refusal is of the script, before it did anything, and
// not of the transaction: our user has no right to it, or in a cluster not that
// of writing to all of the keys, or an administrator has ended it (SCRIPT KILL).
func aboutScript(words error) bool {
	code, rest, _ := strings.Cut(words.Error(), " ")
	return code == "NOPERM" || strings.Contains(rest, "Script killed by user")
}

// encodeWhole is the call of the script for a transaction.
func (o *operation) encodeWhole(s *session) rueidis.Completed {
	words := len(o.cmds)
	for _, cmd := range o.cmds {
		words += len(cmd)
	}
	args := s.head(words)
	for _, cmd := range o.cmds {
		args = appendSized(args, cmd)
	}
	s.w.clocks.made(o.record)
	keys := []string{o.record}
	if o.site != nil {
		keys = append(keys, o.site.keys[0]...)
	}
	return s.call(whole, keys, args)
}

// readWhole takes its answer.
func (o *operation) readWhole(s *session, a rueidis.RedisResult, sent bool) (next, error) {
	m, err := a.ToMessage()
	switch outcome.FateOf(err, sent) {
	case outcome.Rejected:
		if isNoScript(err) {
			s.forget(whole)
			o.cause = err
			return repeat, nil
		}
		if words := outcome.WordsOf(m); !aboutScript(words) {
			o.finish(o.refusal(&discarded{words}))
		} else {
			o.finish(errNoScript)
		}
		return decided, nil
	case outcome.Later:
		if words := outcome.WordsOf(m); o.site != nil && redirectionOf(words).code == "TRYAGAIN" {
			// Whoever asks waits for the slot, and nobody else: see arrive.
			o.finish(o.refusal(words))
			return decided, nil
		}
		o.cause = err
		return repeat, s.refused(err)
	case outcome.Lost:
		return o.lose(outcome.ErrLost, s.loss()), outcome.ErrLost
	}
	switch {
	case m.IsInt64():
		o.finish(errNoScript)
		return decided, nil
	case m.IsString():
		kept, _ := m.ToString()
		if o.results, err = replay([]byte(kept), len(o.cmds)); err != nil {
			o.finish(&Error{Kind: Unknown, Cause: err})
			return decided, nil
		}
		return settle, nil
	}
	list, _ := m.ToArray()
	if len(list) != len(o.cmds) {
		o.finish(&Error{Kind: Unknown, Cause: errDone})
		return decided, nil
	}
	o.results = results(list)
	for i := range list {
		if o.results[i].Err == nil {
			o.results[i].Reply = o.reply(i, list[i])
		}
	}
	return settle, nil
}
