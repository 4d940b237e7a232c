// Package readpipe reads from the master on a connection that its caller polls, such as an event
// loop. It answers only under the conditions that a session of the group commit has verified.
package readpipe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
	"unsafe"

	"holdfast/internal/redis/ack"
	"holdfast/internal/redis/command"
	"holdfast/internal/redis/commit"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
)

// Express sends reads to the master on a connection that its caller polls itself, as
// an event loop does: in batches, one at a time. It needs no goroutine, no lock and no
// operations of a writer, because the caller asks for what Express does not answer
// again, with Client.Start. It belongs to one caller at a time.
//
// A batch ends with a ROLE. It is answered under the same conditions as a batch of a
// session without WAIT. A batch is made by Add, sent by Depart, read by Room and Got,
// judged by Land, handed out by Answer, and ended by Done.
type Express struct {
	w       *commit.Writer
	session *commit.Session
	answers *meter.Answers

	next     []byte // the commands of the batch to come
	nextAsks []expressAsk

	met      meter.Encounters // of the batch to come
	expected int              // bytes of those of its answers that are known to be long
	misses   int              // how many of its GETs also ask whether an unknown key exists

	sent     []byte // the commands of the batch that is under way
	sentAsks []expressAsk
	count    int // how many answers it gets, without ROLE's; 0: no batch is under way
	began    time.Time
	heard    int64 // readLease.heard before it

	in      []byte // what has come of its answers
	scan    resp.Scanner
	replies int // how many of them are complete
	made    []resp.Value
	long    []longAnswer
	offset  int64 // the master's, after the batch
}

// expressAsk is what one request of a batch asks for.
type expressAsk struct {
	key    uint64 // whose length the answer teaches; 0: nobody's
	end    int    // of the range that is sent instead of GET; 0: GET is sent
	exists bool   // EXISTS is sent behind the range
}

// Bounds of a batch. It has to be short, because everybody else waits at the master
// meanwhile, and to fit into a socket's buffer.
const (
	MaxExpress      = 512
	maxExpressBytes = 64 << 10
	// maxAnswers is how many bytes the answers of a batch may have together: a batch that takes
	// long to arrive is too old to count.
	maxAnswers  = 16 << 20
	keepAnswers = 256 << 10 // how much memory is kept for the next answers
)

// ErrTooLong is the error if the answers of a batch are too long for an Express.
var ErrTooLong = errors.New("the answers are too long")

// errNoLease is the error if no session has given a read lease.
var errNoLease = errors.New("no master is read without confirmation now")

// Connect connects to the present master of a writer. The caller owns the connection, which is of a
// kind that the kernel polls. The error is errors.ErrUnsupported if there can never be
// such a connection, as with TLS, which the kernel does not poll.
func Connect(ctx context.Context, w *commit.Writer) (*Express, net.Conn, error) {
	cfg := w.Config()
	if cfg.TLS != nil {
		return nil, nil, errors.ErrUnsupported
	}
	p := w.Lease()
	switch {
	case p == nil:
		return nil, nil, errNoLease
	case p.Session.Process == "":
		return nil, nil, errors.ErrUnsupported // the address may lead elsewhere, and nobody could tell
	}
	conn, err := cfg.Options().DialProcess(ctx, p.Session.Process, p.Session.Master)
	if err != nil {
		return nil, nil, fmt.Errorf("log in to %s: %w", p.Session.Master, err)
	}
	return &Express{w: w, session: p.Session, answers: cfg.Answers}, conn, nil
}

// Over reports whether the session has ended that the Express belongs to. If so, it
// answers nothing any more.
func (x *Express) Over() bool { return x.w.Present() != x.session }

// ForExpress reports whether a request may go by an Express. spec is what Redis reports
// about its command.
func ForExpress(r *request.Request, spec *command.Spec) bool {
	return len(r.Commands) == 1 && spec.Fast && len(r.Commands[0]) <= command.BriefWords && r.Read == request.ReadMaster && !r.Atomic && r.Script == nil &&
		(!spec.Counted || spec.Few(r.Commands[0]))
}

// Add puts a request for which ForExpress is true into the next batch. It reports false
// if there is no valid read lease, or no room. now may be some milliseconds ago.
func (x *Express) Add(r *request.Request, now time.Time) bool {
	p := x.w.Lease()
	switch {
	case p == nil || p.Session != x.session || !p.Valid(now, ack.ProofEvery, p.Heard.Load()):
		return false
	case len(x.nextAsks) == MaxExpress || len(x.next) > maxExpressBytes:
		return false
	}
	cmd := r.Commands[0]
	for _, arg := range cmd[1:] {
		if command.Reserved(arg) {
			return false
		}
	}
	ask, ok := x.foresee(cmd)
	if !ok {
		return false
	}
	if ask.end > 0 {
		x.next = appendBounded(x.next, cmd[1], ask)
	} else {
		x.next = resp.AppendCommand(x.next, cmd)
	}
	x.nextAsks = append(x.nextAsks, ask)
	return true
}

// Waiting reports whether there is something to send, and no batch under way.
func (x *Express) Waiting() bool { return x.count == 0 && len(x.nextAsks) > 0 }

// Depart closes the next batch, which is under way from then on, and returns the bytes
// to send. They are valid until the next Depart.
func (x *Express) Depart() []byte {
	x.sent, x.next = append(x.next, "*1\r\n$4\r\nROLE\r\n"...), x.sent[:0]
	x.sentAsks, x.nextAsks = x.nextAsks, x.sentAsks[:0]
	x.met.Begin()
	x.expected = 0
	x.count = len(x.sentAsks)
	for i := range x.sentAsks {
		if x.sentAsks[i].exists {
			x.count++
		}
	}
	x.began = time.Now()
	if p := x.w.Lease(); p != nil {
		x.heard = p.Heard.Load()
	}
	return x.sent
}

// Come returns how many bytes of answers have come, and whether a batch is under way.
func (x *Express) Come() (bytes int, under bool) { return len(x.in), x.count > 0 }

// Room returns the buffer to read answers into; Got takes them from there.
func (x *Express) Room() []byte {
	if cap(x.in)-len(x.in) < 4<<10 {
		x.in = slices.Grow(x.in, max(16<<10, len(x.in)))
	}
	return x.in[len(x.in):min(cap(x.in), len(x.in)+keepAnswers)]
}

// Got takes n bytes that were read into Room. whole is true when all answers of the
// batch are there. After an error (ErrTooLong, or resp.ErrProtocol) the connection is of
// no more use.
func (x *Express) Got(n int) (whole bool, err error) {
	x.in = x.in[:len(x.in)+n]
	for x.scan.At < len(x.in) {
		if x.count == 0 || x.replies > x.count {
			return false, resp.ErrProtocol // an answer to no command
		}
		whole, err := x.scan.Whole(x.in)
		switch {
		case err != nil:
			return false, err
		case !whole && (len(x.in)-x.scan.At > meter.MaxAnswer || len(x.in) > maxAnswers):
			return false, ErrTooLong
		case !whole:
			return false, nil
		}
		x.replies++
	}
	return x.replies == x.count+1, nil
}

// Land judges a batch whose answers are all there. now has to be after they came. It
// reports false if the answers do not count, and must not be given to anybody. From then
// on the next batch may depart. Answer may be called until Done, and nothing may be read
// into Room before Done.
func (x *Express) Land(now time.Time) bool {
	all := unsafe.String(unsafe.SliceData(x.in), len(x.in)) // the answers are parts of it, until Done
	count := len(x.sentAsks)
	x.count, x.scan, x.replies = 0, resp.Scanner{}, 0
	x.made = slices.Grow(x.made[:0], count)[:count]
	x.long = x.long[:0]
	for i, ask := range x.sentAsks {
		var rest string
		if ask.end > 0 {
			rest = readBounded(&x.made[i], all, ask)
		} else {
			rest = x.made[i].Read(all)
		}
		n := len(all) - len(rest)
		if n > meter.ShortAnswer {
			x.long = append(x.long, longAnswer{i, all[:n], ask})
		}
		if ask.key != 0 {
			x.teach(ask, &x.made[i], n)
		}
		all = rest
	}
	var role ack.Role
	role.Master, role.Offset, role.Online = resp.MasterRole(all)
	x.offset = role.Offset

	p := x.w.Lease()
	if p == nil || p.Session != x.session {
		return false
	}
	if role.Master {
		p.Observe(x.began)
	}
	if !p.ConfirmedBy(role) {
		p.Revoked.Store(true)
	}
	if !p.Valid(now, ack.ProofAge, x.heard) {
		return false
	}
	x.w.Count(count)
	return true
}

// Done ends what began with Land: the answers' memory is used again for the next batch.
// kept is true if somebody still reads one of the answers, so that they keep their
// memory.
func (x *Express) Done(kept bool) {
	size := cap(x.in)
	switch x.in = x.in[:0]; {
	case kept: // the next answers are about as long
		x.in, x.made = make([]byte, 0, min(size, keepAnswers)), nil
	case size > keepAnswers:
		x.in = nil
	}
	clear(x.made) // so that they keep no memory alive
	clear(x.long)
}

// longAnswer is the bytes of an answer that is so long that its memory is counted. i is
// its place in the batch, and ask what was asked for.
type longAnswer struct {
	i    int
	text string
	ask  expressAsk
}

// own returns an answer of the batch. A long one is copied to memory of its own, because
// its client may take long to read it; nil: there is no room for it now.
func (x *Express) own(i int, r *request.Request) *resp.Value {
	at := slices.IndexFunc(x.long, func(l longAnswer) bool { return l.i == i })
	if at < 0 {
		return &x.made[i]
	}
	text, ask, answers := x.long[at].text, x.long[at].ask, x.answers
	bytes := int64(len(text))
	if !answers.Take(bytes) {
		return nil
	}
	if !answers.Claim(r.Client, bytes, false) {
		answers.Give(bytes)
		return nil
	}
	r.Hold(answers.Ledger, bytes)
	m := new(resp.Value)
	if text = strings.Clone(text); ask.end > 0 {
		readBounded(m, text, ask)
	} else {
		m.Read(text)
	}
	return m
}

// Answer fills in the answer of the request that was added as number i to the batch that
// has landed. It reports false if Redis refused the command, or if there is no room for
// the answer: asked again by Client.Start, the request gets the reason.
func (x *Express) Answer(i int, r *request.Request) bool {
	m := &x.made[i]
	if m.Kind == resp.Failure {
		return false
	}
	if len(x.long) > 0 {
		r.Release()
		if m = x.own(i, r); m == nil {
			return false
		}
	}
	r.Results = append(r.Results[:0], request.Result{Reply: m.Reply()})
	r.From, r.Node, r.Lag, r.Token = request.ReadMaster, x.session.Master, 0, ""
	if r.WantToken {
		r.Token = request.TokenOf(x.offset)
	}
	return true
}

// foresee looks up how long the answer to a command was lately. It returns false if the
// batch's answers become too long, or if the length is not known and others of the batch
// are about the same key: a writer then bounds what goes together.
func (x *Express) foresee(cmd command.Command) (ask expressAsk, ok bool) {
	answers := x.answers
	kind := command.ByKey
	switch name := cmd[0]; {
	case len(name) == 3 && strings.EqualFold(name, "get"):
	case len(name) == 4 && strings.EqualFold(name, "hget"):
		kind = command.ByField
	case len(name) == 4 && strings.EqualFold(name, "mget"):
		return ask, x.foreseeEach(cmd)
	case len(name) == 5 && strings.EqualFold(name, "hmget"):
		kind = command.ByHash
	default:
		return ask, true
	}
	if ask.key = kind.Key(cmd); ask.key == 0 {
		return ask, true
	}
	length, seen := answers.Lengths.Of(ask.key)
	if !seen {
		length = 0 // it is another key's
	}
	if length > 0 {
		x.expected += int(length)
		if length >= meter.MaxAnswer || x.expected > meter.TogetherAnswers {
			return ask, false
		}
	}
	if operation.Boundable(cmd) && !answers.PlainReads.Load() {
		ask.end = max(meter.LargeAnswer, int(length))
		ask.exists = seen && answers.Lengths.WasMissing(ask.key) || !seen && x.misses > 0
	}
	if seen {
		return ask, true
	}
	return ask, x.met.Add(ask.key) <= meter.UnseenTwice && (kind != command.ByHash || len(cmd) <= 2+meter.WaryFields)
}

// foreseeEach is foresee for a command about several keys.
func (x *Express) foreseeEach(cmd command.Command) (ok bool) {
	for i := range cmd[1:] {
		key := command.ByKey.Key(cmd[i:])
		length, seen := x.answers.Lengths.Of(key)
		if length > 0 && seen || !seen && (i >= meter.UnseenKeys || x.met.Add(key) > meter.UnseenTwice) {
			return false
		}
	}
	return true
}
