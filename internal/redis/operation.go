package redis

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// reservedPrefix starts the keys that are Holdfast's own.
const reservedPrefix = "\x00holdfast\x00"

// idemPrefix starts the records of writes with an idempotency key.
const idemPrefix = reservedPrefix + "idem\x00"

// setOnce stores KEYS[1] = ARGV[1] unless the record KEYS[2] says that it was
// stored already; the record lives ARGV[2] milliseconds. A repetition writes
// too: the WAIT behind it then covers the replication stream up to here, with
// the first attempt in it. Without that write, WAIT would wait for nothing and
// acknowledge what no replica has.
//
// A script's errors come from its first write, so an error means that nothing
// happened (Redis 7.0, script.c: read-only, too few replicas and out of memory
// are checked before a script has written).
const setOnce = `if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], '', 'PX', ARGV[2])
return 1`

var setOnceSHA = func() string {
	sum := sha1.Sum([]byte(setOnce))
	return hex.EncodeToString(sum[:])
}()

// operation is one write on its way. Its caller and the writer share it; state
// says whose it is.
type operation struct {
	// command builds it; loaded says that the connection knows the script.
	command func(b rueidis.Builder, loaded bool) rueidis.Completed
	// scripted says that the command is setOnce.
	scripted bool
	size     int // bytes of its data, about
	// again says that it may be sent again when its answer was lost.
	again bool

	state   atomic.Int32
	expired atomic.Bool // its caller's time is over: it is not to be tried again
	// until is when its caller gives it up. It is not to be sent later, also
	// when this process was stopped in between and its caller has yet to wake.
	until time.Time
	// sent says that it may have been executed by an earlier attempt. The
	// writer sets it before it gives the operation back to the queue.
	sent bool
	// cause is why it has not been executed yet.
	cause error
	done  chan error // has room for the one outcome
}

// The states of an operation.
const (
	queued   int32 = iota // waits; its caller may give it up: not executed
	taken                 // the writer has it; its caller may give it up: unknown
	finished              // has its outcome
)

// newSet is the write of a value.
func newSet(key string, value []byte, idempotencyKey string, ttl time.Duration) *operation {
	val := string(value) // the caller's buffer may be used again before the command is written
	o := &operation{size: len(key) + len(val), done: make(chan error, 1)}
	if idempotencyKey == "" {
		o.command = func(b rueidis.Builder, _ bool) rueidis.Completed {
			return b.Set().Key(key).Value(val).Build()
		}
		return o
	}
	record := recordKey(idempotencyKey, "SET", key, val)
	millis := strconv.FormatInt(ttl.Milliseconds(), 10)
	o.again, o.scripted = true, true
	o.command = func(b rueidis.Builder, loaded bool) rueidis.Completed {
		if loaded {
			return b.Evalsha().Sha1(setOnceSHA).Numkeys(2).Key(key, record).Arg(val, millis).Build()
		}
		return b.Eval().Script(setOnce).Numkeys(2).Key(key, record).Arg(val, millis).Build()
	}
	return o
}

// recordKey names the record of a write. Each part is hashed with its length,
// so that no two writes share a record.
func recordKey(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return idemPrefix + string(h.Sum(nil))
}

// without is the outcome of an operation that is given up and not in the
// writer's hands.
func (o *operation) without() error {
	switch {
	case o.sent:
		return &Error{Unknown, o.cause}
	case o.cause != nil:
		return &Error{NotExecuted, o.cause}
	}
	return &Error{NotExecuted, errNoMaster}
}

// refusal is the outcome of an operation that Redis refused for good. An
// earlier attempt may have happened all the same.
func (o *operation) refusal(cause error) error {
	if o.sent {
		return &Error{Unknown, cause}
	}
	return &Error{Refused, cause}
}

// finish gives the operation its outcome, if its caller still waits.
func (o *operation) finish(err error) {
	if o.state.CompareAndSwap(taken, finished) {
		o.done <- err
	}
}
