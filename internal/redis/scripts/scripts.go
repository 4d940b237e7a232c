// Package scripts has what a session knows of the scripts that clients load, and our scripts that
// keep and find their texts.
//
// A script that a client loads (SCRIPT LOAD, EVAL) is known to one Redis process. It is not
// replicated: the next master answers NOSCRIPT to its hash. So the texts are kept among the
// records of writes, which are replicated, and a process that lacks one gets it before it gets a
// command with the hash. NOSCRIPT would come too late for a transaction or a pipeline, because
// other commands of it are done by then. Any web node keeps texts and any fetches them, and
// SCRIPT FLUSH drops them. Sending all that is the session's work.
package scripts

import (
	"crypto/sha1"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/request"
)

// Bounds of what is kept: the number of scripts, their texts together, and one text. The script
// that was not used for the longest time is dropped first; those of EVAL before those of SCRIPT
// LOAD, since clients that put values into texts bring a new one each time.
const (
	MaxKept      = 1000
	MaxKeptBytes = 8 << 20
	MaxKeptText  = 1 << 20
)

// keptFresh is for how long a session takes for granted that a script is kept, or that the
// process has it. A use is noted once in that time.
const keptFresh = time.Minute

// maxFresh bounds what a session takes for granted.
const maxFresh = 10000

// Use is what a command of a client has to do with scripts.
type Use struct {
	Kind        useKind
	SHA, source string
}

type useKind int

const (
	evaluates useKind = iota // EVAL: it brings a script
	Loads                    // SCRIPT LOAD: likewise, and that is all it is for
	needs                    // EVALSHA, SCRIPT EXISTS: the process is to have it
	Flushes                  // SCRIPT FLUSH
	clears                   // FLUSHALL, FLUSHDB: what is kept goes with the data
)

// AppendUses appends what a command has to do with scripts, if it is well formed.
func AppendUses(uses []Use, name string, cmd command.Command) []Use {
	switch {
	case (name == "eval" || name == "eval_ro") && len(cmd) > 2:
		return append(uses, bringing(evaluates, cmd[1]))
	case name == "script|load" && len(cmd) == 3:
		return append(uses, bringing(Loads, cmd[2]))
	case (name == "evalsha" || name == "evalsha_ro") && len(cmd) > 2:
		return appendNeeds(uses, cmd[1:2])
	case name == "script|exists":
		return appendNeeds(uses, cmd[2:])
	case name == "script|flush":
		return append(uses, Use{Kind: Flushes})
	case name == "flushall" || name == "flushdb":
		return append(uses, Use{Kind: clears})
	}
	return uses
}

func bringing(kind useKind, source string) Use {
	sum := sha1.Sum([]byte(source))
	return Use{kind, hex.EncodeToString(sum[:]), source}
}

func appendNeeds(uses []Use, hashes []string) []Use {
	for _, sha := range hashes {
		if len(sha) == 2*sha1.Size {
			uses = append(uses, Use{Kind: needs, SHA: strings.ToLower(sha)})
		}
	}
	return uses
}

// KEYS of the three scripts below are a hash of the texts by their SHA-1, with
// their length together as "bytes", and a sorted set of when each was used last, in
// microseconds; those of SCRIPT LOAD, by so much later. Of ARGV the first three are those
// of recording.
const inKept = `
local texts, used, loaded = KEYS[1], KEYS[2], 4000000000000000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if ARGV[2] ~= '' then redis.call('SELECT', ARGV[2]) end
`

// Keep keeps scripts: behind the first three of ARGV stand for each "1" if
// it was loaded, its SHA-1 and its text.
var Keep = request.NewScript(inKept+`
for i = 4, #ARGV, 3 do
  local sha, text = ARGV[i + 1], ARGV[i + 2]
  local score = tonumber(redis.call('ZSCORE', used, sha) or 0)
  local base = (ARGV[i] == '1' or score >= loaded) and loaded or 0
  if redis.call('HSETNX', texts, sha, text) == 1 then redis.call('HINCRBY', texts, 'bytes', #text) end
  redis.call('ZADD', used, base + now + i, sha)
end
local bytes = tonumber(redis.call('HGET', texts, 'bytes') or 0)
while redis.call('ZCARD', used) > `+strconv.Itoa(MaxKept)+` or bytes > `+strconv.Itoa(MaxKeptBytes)+` do
  local oldest = redis.call('ZRANGE', used, 0, 0)[1]
  if not oldest then return redis.call('DEL', texts) end
  bytes = redis.call('HINCRBY', texts, 'bytes', -redis.call('HSTRLEN', texts, oldest))
  redis.call('HDEL', texts, oldest)
  redis.call('ZREM', used, oldest)
end`, false)

// Find returns the texts of the SHA-1s behind the first three of ARGV, and
// notes that they are used, where Redis takes writes now.
var Find = request.NewScript(inKept+`
local out = {}
for i = 4, #ARGV do
  local text = redis.call('HGET', texts, ARGV[i])
  out[i - 3] = text
  if text then
    local score = tonumber(redis.call('ZSCORE', used, ARGV[i]) or 0)
    redis.pcall('ZADD', used, (score >= loaded and loaded or 0) + now + i, ARGV[i])
  end
end
return out`, false)

// Drop forgets them all.
var Drop = request.NewScript(inKept+`return redis.call('DEL', texts, used)`, false)

// Presumed is what a session takes for granted of clients' scripts, and since when.
type Presumed struct {
	Kept  map[string]time.Time // they are kept
	Ready map[string]time.Time // this process has them
}

// NewPresumed returns what a session takes for granted as it begins, which is nothing.
func NewPresumed() Presumed {
	return Presumed{Kept: map[string]time.Time{}, Ready: map[string]time.Time{}}
}

// fresh reports whether a script is taken for granted still.
func fresh(since map[string]time.Time, sha string, now time.Time) bool {
	at, ok := since[sha]
	return ok && now.Sub(at) < keptFresh
}

// Note notes since when scripts are taken for granted.
func Note(since map[string]time.Time, shas []string, now time.Time) {
	if len(since) > maxFresh {
		clear(since)
	}
	for _, sha := range shas {
		since[sha] = now
	}
}

// Demand is what a batch asks for that is not taken for granted.
type Demand struct {
	Drop  bool // what is kept
	Doubt bool // what is taken for granted will not last
	Keep  []Use
	Need  []string
	asked map[string]bool // those of need
}

// Empty reports whether nothing is asked for.
func (d *Demand) Empty() bool { return !d.Doubt && len(d.Keep) == 0 && len(d.Need) == 0 }

// Add adds the uses of an operation. What it brings before it flushes is not kept. A guarded
// operation drops what is kept by itself, once.
func (d *Demand) Add(uses []Use, guarded bool, have *Presumed, now time.Time) {
	mine := len(d.Keep)
	for _, u := range uses {
		switch u.Kind {
		case Flushes:
			d.Drop, d.Doubt, d.Keep = d.Drop || !guarded, true, d.Keep[:mine]
		case clears:
			d.Doubt = true
		case needs:
			if !fresh(have.Ready, u.SHA, now) && !d.asked[u.SHA] {
				if d.asked == nil {
					d.asked = map[string]bool{}
				}
				d.asked[u.SHA] = true
				d.Need = append(d.Need, u.SHA)
			}
		default: // to load a script again is a wish to keep it
			if len(u.source) <= MaxKeptText && (u.Kind == Loads || !fresh(have.Kept, u.SHA, now)) {
				d.Keep = append(d.Keep, u)
			}
		}
	}
}

// KeepArgs returns the arguments with which Keep keeps scripts.
func KeepArgs(keep []Use) []string {
	args := make([]string, 0, 3*len(keep))
	for _, u := range keep {
		loaded := "0"
		if u.Kind == Loads {
			loaded = "1"
		}
		args = append(args, loaded, u.SHA, u.source)
	}
	return args
}

// SHAsOf returns the SHA-1s of scripts.
func SHAsOf(uses []Use) []string {
	shas := make([]string, len(uses))
	for i, u := range uses {
		shas[i] = u.SHA
	}
	return shas
}

// CountData is DBSIZE where what is kept of scripts, ARGV, stands among the data.
const CountData = `
local n = redis.call('DBSIZE')
for _, key in ipairs(ARGV) do
  local there = redis.pcall('EXISTS', key)
  if there == 1 then n = n - 1 end
end
return n`
