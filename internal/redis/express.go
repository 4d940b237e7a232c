package redis

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
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/resp"
)

// Express carries reads to the master on a connection that its caller polls
// itself, such as an event loop, in batches, one at a time: without a goroutine
// for it, without a lock, and without the operations of a writer, because what
// it does not answer is simply asked again with Client.Start. It belongs to one
// caller at a time.
//
// A batch ends with a ROLE, and is answered under the same conditions as one of
// a session that goes without WAIT.
type Express struct {
	w       *writer
	session *session

	next     []byte // the commands of the batch to come
	nextAsks []expressAsk

	met      encounters // of the batch to come
	expected int        // the bytes of those of its answers that are known to be long
	misses   int        // for how many keys that nobody knows a GET asks whether they exist

	sent     []byte // those of the batch that is under way
	sentAsks []expressAsk
	count    int // how many answers it gets, without ROLE's; 0: none is under way
	began    time.Time
	heard    int64 // readLease.heard before it

	in      []byte // what has come of its answers
	scan    resp.Scanner
	replies int // the whole ones among them
	made    []resp.Value
	long    []longAnswer
	offset  int64 // the master's, after the batch
}

// expressAsk is what one request of a batch asks for.
type expressAsk struct {
	key    uint64 // what its answer is to teach; 0: nothing
	end    int    // of the range that stands for GET; 0: it goes as it is
	exists bool   // EXISTS goes behind the range
}

// Bounds of a batch: it is to be short, since everybody else waits at the
// master, and fit into a socket's buffer.
const (
	maxExpress      = 512
	maxExpressBytes = 64 << 10
	// maxAnswer is how long one answer may be, and maxAnswers how long all of
	// them: everybody else waits for the longest, and what takes long to come is
	// too old to count.
	maxAnswer   = 1 << 20
	maxAnswers  = 16 << 20
	keepAnswers = 256 << 10 // how large the memory for them may stay
)

// ErrTooLong: the answers of a batch are longer than an Express brings.
var ErrTooLong = errors.New("the answers are too long")

// errNoLease: no session lets others read now.
var errNoLease = errors.New("no master is read without confirmation now")

// errElsewhere: TLS leads to the master, and no unix socket.
var errElsewhere = errors.New("the master is on another host")

// Express connects to the master as it is now. The connection is the caller's,
// and of a kind that the kernel polls, or there is an error: for ever, where it
// is errors.ErrUnsupported.
//
// Where Config has a unix socket of the master, the connection goes by that. What
// goes there is not cut off with the rest of the network. For an Express that is
// right: it answers only as long as the last proof that the session has had by the
// other way is young enough. (A single Redis needs no proof: there is no other
// master.) For writers and monitors it would not be: they have to hear the master
// as everybody else does.
func (c *Client) Express(ctx context.Context) (*Express, net.Conn, error) {
	if c.writer == nil || c.cfg.TLS != nil && len(c.cfg.Sockets) == 0 {
		return nil, nil, errors.ErrUnsupported
	}
	p := c.writer.readLease.Load()
	switch {
	case p == nil:
		return nil, nil, errNoLease
	case p.session.process == "":
		return nil, nil, errors.ErrUnsupported // the address may lead elsewhere, and nobody could tell
	}
	var conn net.Conn
	err := errors.ErrUnsupported
	if path := c.cfg.Sockets[p.session.master]; path != "" {
		conn, err = c.cfg.options().DialProcessByUnix(ctx, p.session.process, path)
	}
	if err != nil && c.cfg.TLS != nil {
		// Its caller polls what the kernel has, which TLS is not. The next master may be here.
		return nil, nil, errElsewhere
	}
	if err != nil { // the socket only makes it shorter
		conn, err = c.cfg.options().DialProcess(ctx, p.session.process, p.session.master)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("log in to %s: %w", p.session.master, err)
	}
	return &Express{w: c.writer, session: p.session}, conn, nil
}

// Over says that the session is over that this belongs to: it answers no more.
func (x *Express) Over() bool { return x.w.session.Load() != x.session }

// ForExpress says that a request is one for an Express; spec is what Redis says
// of its command.
func ForExpress(r *Request, spec *Spec) bool {
	return len(r.Commands) == 1 && spec.Fast && len(r.Commands[0]) <= command.BriefWords && r.Read == ReadMaster && !r.Atomic && r.Script == nil &&
		(!spec.Counted || spec.Few(r.Commands[0]))
}

// Add takes a request into the batch to come, which is one for it. It answers
// false when there is no lease, or no room; now may be some milliseconds ago.
func (x *Express) Add(r *Request, now time.Time) bool {
	p := x.w.readLease.Load()
	switch {
	case p == nil || p.session != x.session || !p.valid(now, ack.ProofEvery, p.heard.Load()):
		return false
	case len(x.nextAsks) == maxExpress || len(x.next) > maxExpressBytes:
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

// Waiting says that there is something to be sent, and nothing under way.
func (x *Express) Waiting() bool { return x.count == 0 && len(x.nextAsks) > 0 }

// Depart ends the batch to come and answers the bytes that are to be sent. They
// are valid until the next Depart.
func (x *Express) Depart() []byte {
	x.sent, x.next = append(x.next, "*1\r\n$4\r\nROLE\r\n"...), x.sent[:0]
	x.sentAsks, x.nextAsks = x.nextAsks, x.sentAsks[:0]
	x.met.begin()
	x.expected = 0
	x.count = len(x.sentAsks)
	for i := range x.sentAsks {
		if x.sentAsks[i].exists {
			x.count++
		}
	}
	x.began = time.Now()
	if p := x.w.readLease.Load(); p != nil {
		x.heard = p.heard.Load()
	}
	return x.sent
}

// Come is how many bytes of answers have come to the batch that is under way.
func (x *Express) Come() (bytes int, under bool) { return len(x.in), x.count > 0 }

// Room is where what comes is to be read to; Got takes it.
func (x *Express) Room() []byte {
	if cap(x.in)-len(x.in) < 4<<10 {
		x.in = slices.Grow(x.in, max(16<<10, len(x.in)))
	}
	return x.in[len(x.in):min(cap(x.in), len(x.in)+keepAnswers)]
}

// Got takes n bytes that were read to Room. It answers true when the answers of
// the whole batch are there. An error, ErrTooLong or that this is not Redis'
// protocol, ends the connection.
func (x *Express) Got(n int) (whole bool, err error) {
	x.in = x.in[:len(x.in)+n]
	for x.scan.At < len(x.in) {
		if x.count == 0 || x.replies > x.count {
			return false, resp.ErrProtocol // nobody has asked for that
		}
		whole, err := x.scan.Whole(x.in)
		switch {
		case err != nil:
			return false, err
		case !whole && (len(x.in)-x.scan.At > maxAnswer || len(x.in) > maxAnswers):
			return false, ErrTooLong
		case !whole:
			return false, nil
		}
		x.replies++
	}
	return x.replies == x.count+1, nil
}

// Land judges the batch, whose answers are there, as of now, which is after they
// came. It answers false when they are not to be given to anybody. Another batch
// may depart from then on, and Answer is good until Done, before which nothing is
// to be read to Room.
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

	p := x.w.readLease.Load()
	if p == nil || p.session != x.session {
		return false
	}
	if role.Master {
		p.observe(x.began)
	}
	if !p.confirmedBy(role) {
		p.revoked.Store(true)
	}
	if !p.valid(now, ack.ProofAge, x.heard) {
		return false
	}
	x.w.stats.batch(count)
	return true
}

// Done ends what began with Land. The answers' memory is that of the next ones
// from then on; kept says that one of them is still to be read, by whoever it was
// given to.
func (x *Express) Done(kept bool) {
	size := cap(x.in)
	switch x.in = x.in[:0]; {
	case kept: // the next ones are about as long
		x.in, x.made = make([]byte, 0, min(size, keepAnswers)), nil
	case size > keepAnswers:
		x.in = nil
	}
	clear(x.made) // of what they refer to
	clear(x.long)
}

// longAnswer is an answer that counts, as it came; i is its place in the batch, and
// ask what was asked for.
type longAnswer struct {
	i    int
	text string
	ask  expressAsk
}

// own returns an answer that, where it is a long one, has memory of its own: its
// client may take long to read it. It is nil when there is no room for that now.
func (x *Express) own(i int, r *Request) *resp.Value {
	at := slices.IndexFunc(x.long, func(l longAnswer) bool { return l.i == i })
	if at < 0 {
		return &x.made[i]
	}
	text, ask, answers := x.long[at].text, x.long[at].ask, x.w.cfg.answers
	bytes := int64(len(text))
	if !answers.Take(bytes) {
		return nil
	}
	if !answers.Claim(r.Client, bytes, false) {
		answers.Give(bytes)
		return nil
	}
	r.hold(answers.Ledger, bytes)
	m := new(resp.Value)
	if text = strings.Clone(text); ask.end > 0 {
		readBounded(m, text, ask)
	} else {
		m.Read(text)
	}
	return m
}

// Answer gives one of the requests of the batch that has landed its answer, in
// the order in which they were added. It answers false when Redis has refused
// the command: whoever asks it again hears why.
func (x *Express) Answer(i int, r *Request) bool {
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
	r.Results = append(r.Results[:0], Result{Reply: m.Reply()})
	r.From, r.Node, r.Lag, r.Token = ReadMaster, x.session.master, 0, ""
	if r.WantToken {
		r.Token = tokenOf(x.offset)
	}
	return true
}
