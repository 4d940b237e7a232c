package keyspace

import (
	"context"
	"crypto/sha1"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/web/response"
)

// A key as a resource is a plain Redis string, which any Redis client reads and writes. HTTP also
// needs the type of its content, which is in a second key beside it. The second key names the SHA-1
// of the value that the type belongs to, so that a value which another client wrote never gets the
// type of an older one. It has the same time to live. A value of the default type has no second
// key.

// DefaultType is the type of content that has no other one (RFC 9110, section 8.3).
const DefaultType = "application/octet-stream"

// ReservedKeys starts the keys that are Holdfast's own, and typeKeys those with
// the types; package redis lets no client at them.
const (
	// ReservedKeys starts Holdfast's own keys, and typeKeys those with the types. Package redis
	// keeps clients from them.
	ReservedKeys = "\x00holdfast\x00"
	typeKeys     = ReservedKeys + "type\x00"
)

// TypeKey returns the name of the key that has another key's type. Redis Cluster has to keep both
// in one slot, so they share what it hashes (Redis Cluster specification, "Hash tags"): the text
// between the first { and the next }, if there is any, else the whole key. A key with a } but
// without a hash tag cannot be wrapped like that; Redis Cluster refuses it, and a single Redis does
// not mind.
func TypeKey(key string) string {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if end := strings.IndexByte(rest, '}'); end > 0 {
			return typeKeys + key
		}
	}
	return typeKeys + "{" + key + "}"
}

// keyState is what a key held at a moment.
type keyState struct {
	// holds is the Redis type of what the key holds: "none", "string", or another one, which is no
	// resource.
	holds string
	value string
	reply redis.Reply // the value's
	// contentType is the value's.
	contentType string
	// tag is the strong entity tag, without its quotes. It depends only on the value and its type.
	tag string
	// ttl is the time to live; negative when there is none.
	ttl time.Duration
	// size is the length of the value in bytes, also where value was left out (see keep).
	size int
	// request holds the reply of which value is a part; nil when it was released.
	request *redis.Request
}

// release gives back the memory that the value takes. The value must not be used afterwards.
func (r *keyState) release() {
	if r.request != nil {
		r.request.Release()
		r.request = nil
	}
}

// keep makes a state that may be kept: it leaves out a long value. It reports whether the value is
// still there.
func (r *keyState) keep() bool {
	if r.request != nil && r.request.Held() > 0 {
		r.value, r.reply = "", redis.Reply{}
	}
	r.release()
	return len(r.value) == r.size
}

func (r *keyState) found() bool { return r.holds == "string" }

func (r *keyState) etag() string { return `"` + r.tag + `"` }

// missing returns why a key is no resource, or nil when it is one.
func (r *keyState) missing() error {
	switch r.holds {
	case "string":
		return nil
	case "none":
		return errNoKey
	}
	return errOtherType(r.holds)
}

var errNoKey = response.NewError(fasthttp.StatusNotFound, "There is no such key.")

func errOtherType(holds string) error {
	return response.NewError(fasthttp.StatusConflict, fmt.Sprintf("The key holds a %s, which is no string of bytes; use Redis' own commands for it.", holds))
}

// sha1Hex returns the SHA-1 of a value, in hex.
func sha1Hex(value string) string {
	return fmt.Sprintf("%x", sha1.Sum([]byte(value)))
}

// tagOf returns the entity tag of a value with that SHA-1. The scripts below compute it from the
// same sum, so they hash a value once.
func tagOf(contentType, sum string) string {
	return fmt.Sprintf("%x", sha1.Sum([]byte(contentType+"\n"+sum)))
}

// shortState is how many bytes a value may have that a script reads. A script copies a value
// several times in one go: with 48 MB, Redis serves nobody else for 300 ms.
const shortState = 64 << 10

// readKey returns what KEYS[1] holds. For a string it also returns the value, the time to live and
// what KEYS[2] says about the type; for a string longer than ARGV[1], only the length.
var readKey = redis.NewReadScript(`
local holds = redis.call('TYPE', KEYS[1]).ok
if holds ~= 'string' then return {holds} end
local length = redis.call('STRLEN', KEYS[1])
if length > tonumber(ARGV[1]) then return {holds, length} end
return {holds, redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[2]) or ''}`)

// newKeyState returns a state from Redis' replies: what the key holds, its value, its time to live,
// and what the second key says about the type.
func newKeyState(holds, value, ttl, kept redis.Reply) keyState {
	r := keyState{holds: strings.Clone(holds.Text())}
	if !r.found() {
		return r
	}
	r.value, r.reply, r.contentType, r.ttl = value.Text(), value, DefaultType, -1
	r.size = len(r.value)
	if ttl.Int() >= 0 {
		r.ttl = time.Duration(ttl.Int()) * time.Millisecond
	}
	s := sha1Hex(r.value)
	r.tag = tagOf(DefaultType, s)
	if of, contentType, _ := strings.Cut(kept.Text(), " "); of == s {
		r.tag = tagOf(contentType, s)
		if goodType(contentType) { // a script may have written anything there
			r.contentType = contentType
		}
	}
	return r
}

// read reads a key by a request that has its other fields already. The caller has to release the
// state.
func (k *Handler) read(within context.Context, r *redis.Request, key string) (keyState, error) {
	r.Commands, r.Script, r.Keys, r.Args = nil, readKey, []string{key, TypeKey(key)}, []string{strconv.Itoa(shortState)}
	if err := k.carryOut(within, r); err != nil {
		return keyState{}, err
	}
	var state keyState
	switch reply := r.Results[0].Reply; reply.Len() {
	case 1:
		state = newKeyState(reply.At(0), redis.Reply{}, redis.Reply{}, redis.Reply{})
	case 2:
		return k.readLong(within, r, key)
	default:
		state = newKeyState(reply.At(0), reply.At(1), reply.At(2), reply.At(3))
	}
	state.request = r
	return state, nil
}

// readLong is read for a value that has just been found to be long.
func (k *Handler) readLong(within context.Context, r *redis.Request, key string) (keyState, error) {
	r.Commands, r.Script, r.Keys, r.Args = []redis.Command{{"TYPE", key}, {"GET", key}, {"PTTL", key}, {"GET", TypeKey(key)}}, nil, nil, nil
	r.Atomic, r.Own, r.Long = true, true, true
	err := k.carryOut(within, r)
	r.Commands, r.Atomic, r.Own, r.Long = nil, false, false, false
	if err != nil {
		return keyState{}, err
	}
	all := r.Results
	state := newKeyState(all[0].Reply, all[1].Reply, all[2].Reply, all[3].Reply)
	state.request = r
	return state, nil
}

// carryOut carries out a request all of whose commands have to succeed. When one fails, the request
// is released. A WRONGTYPE counts as success: holds says it.
func (k *Handler) carryOut(within context.Context, r *redis.Request) error {
	if err := k.Store.Do(within, r); err != nil {
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

// isOtherType reports whether Redis refused a command because of the type of its key.
func isOtherType(err error) bool { return strings.HasPrefix(redis.Words(err), "WRONGTYPE ") }

// checkKey is the beginning of both scripts that write. It returns what is in the way: a type other
// than string, or a precondition. The preconditions are ARGV[1] (If-Match) and ARGV[2]
// (If-None-Match): empty when there is none, * or the tags with a comma before and after each.
const checkKey = `
local holds = redis.call('TYPE', KEYS[1]).ok
if holds ~= 'none' and holds ~= 'string' then return {409, holds} end
if ARGV[1] ~= '' or ARGV[2] ~= '' then
  local tag
  if holds == 'string' then
    local sum = redis.sha1hex(redis.call('GET', KEYS[1]))
    local kept = redis.call('GET', KEYS[2])
    local contentType = '` + DefaultType + `'
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

// putKey stores ARGV[3], whose SHA-1 is ARGV[4], with the type ARGV[5] (empty: the default), for
// ARGV[6] milliseconds (empty: without end).
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

// deleteKey deletes the key. A key that does not exist is not found, whatever the preconditions:
// they count only where the response would be a success without them (RFC 9110, section 13.2.1).
var deleteKey = redis.NewFreeingScript(`if redis.call('EXISTS', KEYS[1]) == 0 then return {404} end` + checkKey + `
redis.call('DEL', KEYS[1], KEYS[2])
return {204}`)
