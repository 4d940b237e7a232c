package web

import (
	"context"
	"crypto/sha1"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
)

// A key as a resource is a plain Redis string, which any Redis client reads and
// writes. What HTTP needs besides, the type of its content, is in a second key
// beside it. That one names the SHA-1 of the value that the type belongs to, so
// that a value which another client wrote never gets the type of an older one.
// It has the same time to live. A value of the default type has none.

// defaultType is the type of content that is not said to be anything else (RFC
// 9110, section 8.3).
const defaultType = "application/octet-stream"

// reservedKeys starts the keys that are Holdfast's own, and typeKeys those with
// the types; package redis lets no client at them.
const (
	reservedKeys = "\x00holdfast\x00"
	typeKeys     = reservedKeys + "type\x00"
)

// typeKey names the key that has another one's type. Redis Cluster has to keep
// both in one slot, so they share what it hashes (Redis Cluster specification,
// "Hash tags"): what is between the first { and the next }, if there is
// anything, else the whole key. Only of a key with a } but no hash tag that
// cannot be said; Redis Cluster refuses it, a single Redis does not mind.
func typeKey(key string) string {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if end := strings.IndexByte(rest, '}'); end > 0 {
			return typeKeys + key
		}
	}
	return typeKeys + "{" + key + "}"
}

// keyState is a key at a moment.
type keyState struct {
	// holds is what the key holds for Redis: "none", "string" or another of
	// its types, which is no resource.
	holds string
	value string
	reply redis.Reply // the value's
	// contentType is the value's.
	contentType string
	// tag is the strong entity tag, without its quotes: it changes with the
	// value and its type alone.
	tag string
	// ttl is how long it has to live; negative: until it is deleted.
	ttl time.Duration
	// size is how many bytes value has, also where that is left out (see keep).
	size int
	// request has the answer that value is part of.
	request *redis.Request
}

// release gives back what the value takes. It is of no more use then.
func (r *keyState) release() {
	if r.request != nil {
		r.request.Release()
		r.request = nil
	}
}

// keep makes it a state that may be kept: without its value where that is a long one.
// It reports whether the value is still there.
func (r *keyState) keep() bool {
	if r.request != nil && r.request.Held() > 0 {
		r.value, r.reply = "", redis.Reply{}
	}
	r.release()
	return len(r.value) == r.size
}

func (r *keyState) found() bool { return r.holds == "string" }

func (r *keyState) etag() string { return `"` + r.tag + `"` }

// missing answers what is wrong with a key that is no resource; nil when it is
// one.
func (r *keyState) missing() error {
	switch r.holds {
	case "string":
		return nil
	case "none":
		return errNoKey
	}
	return errOtherType(r.holds)
}

var errNoKey = &failure{fasthttp.StatusNotFound, "There is no such key."}

func errOtherType(holds string) error {
	return &failure{fasthttp.StatusConflict, fmt.Sprintf("The key holds a %s, which is no string of bytes; use Redis' own commands for it.", holds)}
}

// sum is the SHA-1 of a value, in hex.
func sum(value string) string {
	return fmt.Sprintf("%x", sha1.Sum([]byte(value)))
}

// tagOf is the entity tag of a value whose SHA-1 is sum. The scripts below
// have it from the same sum, so that they hash a value once.
func tagOf(contentType, sum string) string {
	return fmt.Sprintf("%x", sha1.Sum([]byte(contentType+"\n"+sum)))
}

// shortState is up to how many bytes a value has that a script reads. A script copies a
// value several times in one go: 48 MB keep Redis from everybody else for 300 ms.
const shortState = 64 << 10

// readKey returns what KEYS[1] holds, and of a string its value, its time to live and
// what KEYS[2] says of its type. Of a string that is longer than ARGV[1] it returns the
// length alone.
var readKey = redis.NewReadScript(`
local holds = redis.call('TYPE', KEYS[1]).ok
if holds ~= 'string' then return {holds} end
local length = redis.call('STRLEN', KEYS[1])
if length > tonumber(ARGV[1]) then return {holds, length} end
return {holds, redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[2]) or ''}`)

// newKeyState makes a state of what Redis says that a key holds, of its value, its time
// to live, and what is kept of its type.
func newKeyState(holds, value, ttl, kept redis.Reply) keyState {
	r := keyState{holds: strings.Clone(holds.Text())}
	if !r.found() {
		return r
	}
	r.value, r.reply, r.contentType, r.ttl = value.Text(), value, defaultType, -1
	r.size = len(r.value)
	if ttl.Int() >= 0 {
		r.ttl = time.Duration(ttl.Int()) * time.Millisecond
	}
	s := sum(r.value)
	r.tag = tagOf(defaultType, s)
	if of, contentType, _ := strings.Cut(kept.Text(), " "); of == s {
		r.tag = tagOf(contentType, s)
		if goodType(contentType) { // a script may have written anything
			r.contentType = contentType
		}
	}
	return r
}

// read carries out the reading of a key, which r is otherwise ready for. What it
// returns is to be released.
func (s *Server) read(within context.Context, r *redis.Request, key string) (keyState, error) {
	r.Commands, r.Script, r.Keys, r.Args = nil, readKey, []string{key, typeKey(key)}, []string{strconv.Itoa(shortState)}
	if err := s.carryOut(within, r); err != nil {
		return keyState{}, err
	}
	var state keyState
	switch reply := r.Results[0].Reply; reply.Len() {
	case 1:
		state = newKeyState(reply.At(0), redis.Reply{}, redis.Reply{}, redis.Reply{})
	case 2:
		return s.readLong(within, r, key)
	default:
		state = newKeyState(reply.At(0), reply.At(1), reply.At(2), reply.At(3))
	}
	state.request = r
	return state, nil
}

// readLong is read for a value that was a long one just now.
func (s *Server) readLong(within context.Context, r *redis.Request, key string) (keyState, error) {
	r.Commands, r.Script, r.Keys, r.Args = []redis.Command{{"TYPE", key}, {"GET", key}, {"PTTL", key}, {"GET", typeKey(key)}}, nil, nil, nil
	r.Atomic, r.Own, r.Long = true, true, true
	err := s.carryOut(within, r)
	r.Commands, r.Atomic, r.Own, r.Long = nil, false, false, false
	if err != nil {
		return keyState{}, err
	}
	all := r.Results
	state := newKeyState(all[0].Reply, all[1].Reply, all[2].Reply, all[3].Reply)
	state.request = r
	return state, nil
}

// carryOut has a request carried out of which every part has to succeed. Where one does
// not, it is released.
func (s *Server) carryOut(within context.Context, r *redis.Request) error {
	if err := s.store.Do(within, r); err != nil {
		return err
	}
	for i := range r.Results {
		if err := r.Results[i].Err; err != nil && !isOtherType(err) {
			r.Release()
			return err
		}
	}
	return nil
}

// isOtherType reports whether Redis refused a command because of what its key holds.
func isOtherType(err error) bool { return strings.HasPrefix(redis.Words(err), "WRONGTYPE ") }

// checkKey is the beginning of both scripts that write: it answers what is in
// the way. The preconditions are ARGV[1] (If-Match) and ARGV[2] (If-None-Match):
// empty when there is none, * or the tags with a comma before and after each.
const checkKey = `
local holds = redis.call('TYPE', KEYS[1]).ok
if holds ~= 'none' and holds ~= 'string' then return {409, holds} end
if ARGV[1] ~= '' or ARGV[2] ~= '' then
  local tag
  if holds == 'string' then
    local sum = redis.sha1hex(redis.call('GET', KEYS[1]))
    local kept = redis.call('GET', KEYS[2])
    local contentType = '` + defaultType + `'
    if kept and string.sub(kept, 1, 40) == sum then contentType = string.sub(kept, 42) end
    tag = redis.sha1hex(contentType .. '\n' .. sum)
  end
  local function among(tags)
    return tag and (tags == '*' or string.find(tags, ',' .. tag .. ',', 1, true))
  end
  if ARGV[1] ~= '' and not among(ARGV[1]) then return {412} end
  if ARGV[2] ~= '' and among(ARGV[2]) then return {412} end
end
`

// putKey stores ARGV[3], whose sum is ARGV[4], of the type ARGV[5] (empty: the
// default), for ARGV[6] milliseconds (empty: for good).
var putKey = redis.NewScript(checkKey + `
if ARGV[6] ~= '' then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[6])
else
  redis.call('SET', KEYS[1], ARGV[3])
end
if ARGV[5] == '' then
  redis.call('DEL', KEYS[2])
elseif ARGV[6] ~= '' then
  redis.call('SET', KEYS[2], ARGV[4] .. ' ' .. ARGV[5], 'PX', ARGV[6])
else
  redis.call('SET', KEYS[2], ARGV[4] .. ' ' .. ARGV[5])
end
return {holds == 'none' and 201 or 204}`)

// deleteKey deletes the key. One that is not there is not found, whatever the
// preconditions: they count only where the answer would be a success without
// them (RFC 9110, section 13.2.1).
var deleteKey = redis.NewFreeingScript(`if redis.call('EXISTS', KEYS[1]) == 0 then return {404} end` + checkKey + `
redis.call('DEL', KEYS[1], KEYS[2])
return {204}`)
