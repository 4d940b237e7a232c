package redis

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/outcome"
)

// A script that a client loads (SCRIPT LOAD, EVAL) is known to one Redis process,
// and not replicated: the next master answers NOSCRIPT to its hash. So the texts
// are kept among the records, which are replicated, and a process that lacks one
// gets it before it gets a command with the hash. Before, because NOSCRIPT comes
// too late for a transaction or a pipeline: others of its commands are done by
// then. Any web node brings and any fetches them, and SCRIPT FLUSH drops them.

// What is kept: so many scripts, their texts together, and one text. The one that
// was not used for the longest time goes first; EVAL's before those of SCRIPT LOAD,
// since clients that put values into texts bring a new one each time.
const (
	maxKeptScripts     = 1000
	maxKeptScriptBytes = 8 << 20
	maxKeptScript      = 1 << 20
)

// keptFresh is for how long a session takes for granted that a script is kept, or
// that the process has it. A use is noted once in that time.
const keptFresh = time.Minute

// maxFresh bounds what a session takes for granted.
const maxFresh = 10000

// scriptUse is what a command of a client has to do with scripts.
type scriptUse struct {
	kind        useKind
	sha, source string
}

type useKind int

const (
	evaluates useKind = iota // EVAL: it brings a script
	loads                    // SCRIPT LOAD: likewise, and that is all it is for
	needs                    // EVALSHA, SCRIPT EXISTS: the process is to have it
	flushes                  // SCRIPT FLUSH
	clears                   // FLUSHALL, FLUSHDB: what is kept goes with the data
)

// appendUses appends what a command has to do with scripts, if it is well formed.
func appendUses(uses []scriptUse, name string, cmd Command) []scriptUse {
	switch {
	case (name == "eval" || name == "eval_ro") && len(cmd) > 2:
		return append(uses, bringing(evaluates, cmd[1]))
	case name == "script|load" && len(cmd) == 3:
		return append(uses, bringing(loads, cmd[2]))
	case (name == "evalsha" || name == "evalsha_ro") && len(cmd) > 2:
		return appendNeeds(uses, cmd[1:2])
	case name == "script|exists":
		return appendNeeds(uses, cmd[2:])
	case name == "script|flush":
		return append(uses, scriptUse{kind: flushes})
	case name == "flushall" || name == "flushdb":
		return append(uses, scriptUse{kind: clears})
	}
	return uses
}

func bringing(kind useKind, source string) scriptUse {
	sum := sha1.Sum([]byte(source))
	return scriptUse{kind, hex.EncodeToString(sum[:]), source}
}

func appendNeeds(uses []scriptUse, hashes []string) []scriptUse {
	for _, sha := range hashes {
		if len(sha) == 2*sha1.Size {
			uses = append(uses, scriptUse{kind: needs, sha: strings.ToLower(sha)})
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

// keepScripts keeps scripts: behind the first three of ARGV stand for each "1" if
// it was loaded, its SHA-1 and its text.
var keepScripts = newScript(inKept+`
for i = 4, #ARGV, 3 do
  local sha, text = ARGV[i + 1], ARGV[i + 2]
  local score = tonumber(redis.call('ZSCORE', used, sha) or 0)
  local base = (ARGV[i] == '1' or score >= loaded) and loaded or 0
  if redis.call('HSETNX', texts, sha, text) == 1 then redis.call('HINCRBY', texts, 'bytes', #text) end
  redis.call('ZADD', used, base + now + i, sha)
end
local bytes = tonumber(redis.call('HGET', texts, 'bytes') or 0)
while redis.call('ZCARD', used) > `+strconv.Itoa(maxKeptScripts)+` or bytes > `+strconv.Itoa(maxKeptScriptBytes)+` do
  local oldest = redis.call('ZRANGE', used, 0, 0)[1]
  if not oldest then return redis.call('DEL', texts) end
  bytes = redis.call('HINCRBY', texts, 'bytes', -redis.call('HSTRLEN', texts, oldest))
  redis.call('HDEL', texts, oldest)
  redis.call('ZREM', used, oldest)
end`, false)

// findScripts returns the texts of the SHA-1s behind the first three of ARGV, and
// notes that they are used, where Redis takes writes now.
var findScripts = newScript(inKept+`
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

// dropScripts forgets them all.
var dropScripts = newScript(inKept+`return redis.call('DEL', texts, used)`, false)

// scripts is what a session takes for granted of clients' scripts, and since when.
type scripts struct {
	kept  map[string]time.Time // they are kept
	ready map[string]time.Time // this process has them
}

func newScripts() scripts {
	return scripts{kept: map[string]time.Time{}, ready: map[string]time.Time{}}
}

func fresh(since map[string]time.Time, sha string, now time.Time) bool {
	at, ok := since[sha]
	return ok && now.Sub(at) < keptFresh
}

func note(since map[string]time.Time, shas []string, now time.Time) {
	if len(since) > maxFresh {
		clear(since)
	}
	for _, sha := range shas {
		since[sha] = now
	}
}

// demand is what a batch asks for that is not taken for granted.
type demand struct {
	drop  bool // what is kept
	doubt bool // what is taken for granted will not last
	keep  []scriptUse
	need  []string
	asked map[string]bool // those of need
}

func (d *demand) empty() bool { return !d.doubt && len(d.keep) == 0 && len(d.need) == 0 }

// add takes an operation's uses. What it brings before it flushes is not kept. A
// guarded one drops what is kept by itself, once: see guard.
func (d *demand) add(o *operation, have *scripts, now time.Time) {
	mine := len(d.keep)
	for _, u := range o.uses {
		switch u.kind {
		case flushes:
			d.drop, d.doubt, d.keep = d.drop || !o.guarded, true, d.keep[:mine]
		case clears:
			d.doubt = true
		case needs:
			if !fresh(have.ready, u.sha, now) && !d.asked[u.sha] {
				if d.asked == nil {
					d.asked = map[string]bool{}
				}
				d.asked[u.sha] = true
				d.need = append(d.need, u.sha)
			}
		default: // to load a script again is a wish to keep it
			if len(u.source) <= maxKeptScript && (u.kind == loads || !fresh(have.kept, u.sha, now)) {
				d.keep = append(d.keep, u)
			}
		}
	}
}

// demands is what a batch asks for.
func (s *session) demands(batch []*operation) (d demand, now time.Time) {
	for _, o := range batch {
		if len(o.uses) == 0 {
			continue
		}
		if now.IsZero() {
			now = time.Now()
		}
		d.add(o, &s.scripts, now)
	}
	return d, now
}

// provide sees to the scripts of a batch before it is sent. It returns those of its
// operations that can be sent; the others, and all when there is an error, which
// ends the session, are to be tried again.
func (s *session) provide(ctx context.Context, batch []*operation) ([]*operation, error) {
	d, now := s.demands(batch)
	if d.empty() {
		return batch, nil
	}
	if d.doubt {
		clear(s.scripts.ready)
		clear(s.scripts.kept)
	}
	later, err := s.supply(ctx, &d, now)
	if err == nil && later == nil {
		return batch, nil
	}
	s.pause, s.lonely = 0, false // of those that wait alone
	return slices.DeleteFunc(slices.Clone(batch), func(o *operation) bool {
		if err == nil && !slices.ContainsFunc(o.uses, func(u scriptUse) bool { return u.kind == loads || u.kind == flushes }) {
			return false
		}
		if o.cause = err; err == nil {
			o.cause, s.pause = later, retryPause
		}
		s.again = append(s.again, o)
		return true
	}), err
}

// supply keeps, drops and loads scripts. later is why nothing can be kept or dropped
// now, where that is of this moment; an error ends the session.
func (s *session) supply(ctx context.Context, d *demand, now time.Time) (later, err error) {
	var texts []rueidis.RedisMessage // of those that are needed; and whether the process has them
	there := make([]int64, len(d.need))
	for range 2 { // a SCRIPT FLUSH takes those of ours along
		var cmds rueidis.Commands
		var of []*Script
		add := func(script *Script, args []string) {
			cmds = append(cmds, s.call(script, s.keptKeys(), s.head(len(args)), args))
			of = append(of, script)
		}
		if d.drop {
			add(dropScripts, nil)
		}
		// Of more than can be kept, the last.
		for some := range slices.Chunk(d.keep[max(0, len(d.keep)-maxKeptScripts):], maxSingles) {
			add(keepScripts, keepArgs(some))
		}
		if len(d.need) > 0 {
			add(findScripts, d.need)
			cmds = append(cmds, s.conn.B().ScriptExists().Sha1(d.need...).Build())
		}
		if len(cmds) == 0 {
			return nil, nil
		}
		answers, _ := s.exchange(ctx, cmds)
		if err := answers[len(answers)-1].NonRedisError(); err != nil {
			return nil, fmt.Errorf("%w (%w)", outcome.ErrLost, err)
		}
		lost := false
		later = nil
		for i, script := range of {
			m, err := answers[i].ToMessage()
			switch {
			case isNoScript(err):
				s.forget(script)
				lost = true
			case outcome.FateOf(err, true) == outcome.Later && script != findScripts:
				if ended := s.refused(err); ended != nil {
					return nil, ended
				}
				later = err
			case err == nil && script == keepScripts:
				note(s.scripts.kept, shasOf(d.keep), now)
			case err == nil && script == findScripts:
				texts, _ = m.ToArray()
			}
		}
		if len(d.need) > 0 {
			if list, err := answers[len(answers)-1].AsIntSlice(); err == nil && len(list) == len(d.need) {
				there = list
			}
		}
		if !lost {
			break
		}
	}
	return later, s.load(ctx, d, there, texts, now)
}

// load gives the process those scripts that it lacks and that are kept.
func (s *session) load(ctx context.Context, d *demand, there []int64, texts []rueidis.RedisMessage, now time.Time) error {
	var cmds rueidis.Commands
	var ready, asked []string
	for i, sha := range d.need {
		if there[i] == 1 {
			ready = append(ready, sha)
		} else if i < len(texts) {
			if text, err := texts[i].ToString(); err == nil {
				cmds = append(cmds, s.conn.B().ScriptLoad().Script(text).Build())
				asked = append(asked, sha)
			}
		}
	}
	if len(cmds) > 0 {
		answers, _ := s.exchange(ctx, cmds)
		if err := answers[len(answers)-1].NonRedisError(); err != nil {
			return fmt.Errorf("%w (%w)", outcome.ErrLost, err)
		}
		for i, a := range answers {
			if a.Error() == nil { // else it is not well formed, and Redis has words for its hash
				ready = append(ready, asked[i])
			}
		}
	}
	if !d.doubt { // else they may go with the batch
		note(s.scripts.ready, ready, now)
	}
	return nil
}

// doubt takes nothing of an operation's scripts for granted any more where Redis
// turned out not to have one: somebody else has flushed them.
func (s *session) doubt(o *operation) {
	if len(o.uses) == 0 {
		return
	}
	for i := range o.results {
		if err := o.results[i].Err; err == nil || !strings.HasPrefix(Words(err), "NOSCRIPT ") {
			continue
		}
		for _, u := range o.uses {
			delete(s.scripts.ready, u.sha)
		}
		return
	}
}

func keepArgs(keep []scriptUse) []string {
	args := make([]string, 0, 3*len(keep))
	for _, u := range keep {
		loaded := "0"
		if u.kind == loads {
			loaded = "1"
		}
		args = append(args, loaded, u.sha, u.source)
	}
	return args
}

func shasOf(uses []scriptUse) []string {
	shas := make([]string, len(uses))
	for i, u := range uses {
		shas[i] = u.sha
	}
	return shas
}

// drop is the call that forgets what is kept, inside a transaction, where the call
// by a hash would fail too late.
func (s *session) drop() rueidis.Completed {
	keys := s.keptKeys()
	return s.conn.B().Eval().Script(dropScripts.source).Numkeys(int64(len(keys))).Key(keys...).Arg(s.head(0)...).Build()
}

// countData is DBSIZE where what is kept of scripts, ARGV, stands among the data.
const countData = `
local n = redis.call('DBSIZE')
for _, key in ipairs(ARGV) do
  local there = redis.pcall('EXISTS', key)
  if there == 1 then n = n - 1 end
end
return n`

// keptKeys are where scripts are kept: among the records, in a cluster in the first
// slot of the shard.
func (s *session) keptKeys() []string {
	texts, used := idemPrefix+"scripts", idemPrefix+"scripts-used"
	if s.w.slot != nil {
		slot := s.w.slot()
		texts, used = recordIn(slot, texts), recordIn(slot, used)
	}
	return []string{texts, used}
}
