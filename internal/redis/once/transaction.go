package once

import (
	"strconv"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/request"
)

// A transaction with an idempotency key is one call of a script of ours, if its commands allow
// it. Its record, what it does and its answer are then one write, and a master that has any of
// it has all. EXEC cannot write its own answer down, and so takes a second trip, before which a
// master may die.
//
// A script is not EXEC. EXEC refuses a transaction as a whole if one of its commands cannot be
// carried out; a script would learn that when others are done. So it is found out before: by the
// command table (see carriable), and what that does not tell, the rights of our user above all,
// by the script's first half, which only asks. Everything doubtful takes the two trips, so that
// the words of a refusal are EXEC's own.

// answersForm begins the record of a transaction that a script carried out. The record of one
// that took the two trips has the same name. It is empty or begins with seven zero bytes of the
// client library's, so the two can be told apart. A version of Holdfast that knows only that
// form reports that it cannot read this one.
const answersForm = "holdfast script:"

// Answers to a request that are longer together, or have more elements, are not kept in its
// record.
const (
	MaxKeptBytes    = 256 << 10
	MaxKeptElements = 10000

	keptBytes, keptElements = "262144", "10000" // the same, for a script
)

// Transaction carries a transaction out. KEYS[1] is its record. Behind the first three of ARGV, which
// are those of recording, comes each command, after its length. In a cluster KEYS has the
// commands' own keys, too: see InCluster. The script returns an array of the answers, or a
// record that is not of this form, or a number: then no script can carry the transaction out,
// and nothing was done.
//
// The record is the first write, for the reason that recording gives. An error that is raised
// behind it would be taken for a refusal. Nothing is known to raise one; if something does, the
// client learns that there is a record without an answer. The repetition of a transaction whose
// answers are too long to be kept gets the same. redis.pcall leaves Redis' words as they are,
// and an error that is raised ends in the script's name and line.
var Transaction = request.NewScript(renewing+keeping+carrying+`
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

// MaxWhole is how many commands a transaction may have that a script carries out. All clients
// wait for EXEC and for a script alike until they are done, but a script's answers are made
// twice.
const MaxWhole = 1024

// carriableNames are the commands that such a script may carry out. Redis would not refuse them
// before EXEC, they do in a script what they do otherwise, and their answers pass through Lua
// unchanged: none has an integer that may be beyond 2^53, except the counters, which are read
// again as text, and times to live, which are that long 285,000 years ahead. The answers are
// also short: they have at most as many elements as the command has arguments. Redis makes those
// of a script twice and the record a third time, and serves nobody else meanwhile; half a
// million elements take longer than Sentinels wait for a master.
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

// Carriable reports whether a command can be part of a transaction in a script. In a cluster its
// keys have to be known: a script names them all beforehand.
func Carriable(s *command.Spec, cmd command.Command, inCluster bool) bool {
	if s == nil || s.Old || !carriableNames[s.Name] || s.Module || s.NoScript || len(cmd) >= MaxScriptArgs {
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
