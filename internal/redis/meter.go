package redis

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"holdfast/internal/redis/resp"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/rueidis"
)

// The client library reads each reply into memory as a whole, whatever its length.
// So a connection counts, as replies come, what they take: Redis says the length
// of a string and of an array before its content. What is over the bound, or finds
// no room, never reaches the library: it is read and dropped piece by piece, and a
// short error takes its place. The connection stays in step, and the other
// requests on it are not affected.

// elementSize is what an element of an array takes beside its bytes.
const elementSize = 64

// chargeStep is in which steps an answer of many short elements is counted.
const chargeStep = 64 << 10

// cutWords is the error in the place of what was dropped. It has a random number in
// it, so that no client's script can return the same.
var cutWords = func() string {
	var number [8]byte
	_, _ = rand.Read(number[:]) // it does not fail (Go 1.24)
	return "HFCUT" + hex.EncodeToString(number[:])
}()

// cut is why a part of an answer was dropped.
type cut int

const (
	uncut   cut = iota
	tooLong     // it is longer than an answer may be
	noRoom      // others' answers take all the room there is
)

// allowance is what the replies to some commands may take together.
type allowance struct {
	replies int // how many replies these are; 0: each one by itself
	// framed: each reply is an array of answers, as EXEC's; each: these are of
	// different requests, and each may take the budget.
	framed, each bool
	budget       int64 // bytes
	// room was taken before; always: it has to be given if there is any room at
	// all, since the commands may write.
	room   int64
	always bool

	// base is what was charged before the present one of them, where they are of
	// different requests.
	base, spent, charged int64
	cut                  cut
	need                 int64 // how much room is to be taken before another attempt, for noRoom
}

// meter counts the replies of one connection. The reader of the connection calls read.
// The sender of the commands may call the rest while no reply is outstanding or when
// the connection has ended.
type meter struct {
	ledger *ledger
	each   allowance     // of a reply that belongs to no share
	keep   bool          // what is charged stays so until end takes it
	seen   *atomic.Int64 // counts what is dropped

	// Of the reader alone.
	out    []byte // to be given before anything else is read
	held   []byte // the beginning of a line that is not all there
	edited bool   // something of what was just read is dropped or changed
	good   int    // how much of it is given on as it is, up to there

	left  int64   // bytes of a string that are to come, its end included
	line  bool    // a line of any length is under way
	long  int64   // how long it is so far
	drop  bool    // string or line is dropped
	skip  int64   // how many elements are dropped
	stack []int64 // elements to come of each array that is under way
	// spoiled: the present answer, or the present one of a framed reply, has the words
	// in it that stand for what was dropped.
	spoiled bool
	blind   bool      // this is no protocol that we know
	own     allowance // of the reply that is under way, where none was told

	mu     sync.Mutex
	shares []allowance
	at     int   // the present share
	past   int   // its replies that are over
	loose  int64 // charged for replies that belong to no share
	cuts   int   // since begin
	dead   bool  // the connection has ended
}

// begin tells how the replies to come belong together. Those behind them are each
// by itself.
func (m *meter) begin(shares []allowance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shares, m.at, m.past, m.cuts = shares, 0, 0, 0
}

// end takes the shares back when the replies are there, or none comes any more. loose
// is what was charged for others since begin, and cuts how often something was
// dropped.
func (m *meter) end() (loose int64, cuts int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	loose, m.loose = m.loose, 0
	m.shares, m.at, m.past = nil, 0, 0
	return loose, m.cuts
}

// share returns the allowance of the present reply. The caller holds the mutex.
func (m *meter) share() *allowance {
	if m.at < len(m.shares) {
		return &m.shares[m.at]
	}
	return &m.own
}

// read is io.Reader's, from a connection, without what is dropped.
func (m *meter) read(conn io.Reader, p []byte) (int, error) {
	for len(p) > 0 {
		if len(m.out) > 0 {
			n := copy(p, m.out)
			if m.out = m.out[n:]; len(m.out) == 0 {
				m.out = nil
			}
			return n, nil
		}
		room := p
		if len(p) <= len(m.held) {
			room = make([]byte, 64+len(m.held))
		}
		kept := copy(room, m.held)
		n, err := conn.Read(room[kept:])
		if n > 0 {
			m.held = m.held[:0]
			m.edited, m.good = false, 0
			m.mu.Lock()
			m.pass(room[:kept+n])
			m.mu.Unlock()
			if len(room) != len(p) {
				m.out = append(bytes.Clone(room[:m.good]), m.out...)
				m.good = 0
			}
			if m.good > 0 {
				return m.good, err
			}
		}
		if err != nil && len(m.out) == 0 {
			return 0, err
		}
	}
	return 0, nil
}

// give has a part of what was read given on.
func (m *meter) give(b []byte, from, to int) {
	if m.edited {
		m.out = append(m.out, b[from:to]...)
	} else {
		m.good = to
	}
}

// put has other bytes given in the place of what comes.
func (m *meter) put(text string) {
	m.edited = true
	m.out = append(m.out, text...)
}

// pass looks at what was read.
func (m *meter) pass(b []byte) {
	for i := 0; i < len(b); {
		switch {
		case m.blind:
			m.give(b, i, len(b))
			return
		case m.left > 0:
			n := int(min(m.left, int64(len(b)-i)))
			if m.drop {
				m.edited = true
			} else {
				m.give(b, i, i+n)
			}
			i += n
			if m.left -= int64(n); m.left == 0 {
				m.over()
			}
		case m.line:
			i += m.passLine(b, i)
		case b[i] == '$' || b[i] == '*' || b[i] == '=' || b[i] == '!' || b[i] == '%' || b[i] == '~' || b[i] == '>':
			n := m.head(b, i)
			if n == 0 {
				m.held = append(m.held, b[i:]...)
				return
			}
			i += n
		default:
			m.line, m.long, m.drop = true, 0, m.skip > 0
		}
	}
}

// passLine looks at a line of any length, or as much as there is, and returns how
// long that is.
func (m *meter) passLine(b []byte, i int) int {
	end, whole := len(b), false
	if at := bytes.IndexByte(b[i:], '\n'); at >= 0 {
		end, whole = i+at+1, true
	}
	n := end - i
	if m.long += int64(n); !m.drop && m.long > elementSize {
		if why := m.charge(int64(n)); why != uncut {
			m.drop = true
			if m.long == int64(n) {
				m.instead(false, why)
			} else {
				m.put(m.words(why) + resp.CRLF) // the end of what was given of it
			}
		}
	}
	if m.drop {
		m.edited = true
	} else {
		m.give(b, i, end)
	}
	if whole {
		m.line = false
		m.over()
	}
	return n
}

// head reads the line with the length of a string or an array. It returns the length
// of the line itself; 0: the end of the line has not arrived yet.
func (m *meter) head(b []byte, i int) int {
	end := bytes.IndexByte(b[i:min(len(b), i+resp.MaxLine)], '\n')
	if end < 0 && len(b)-i < resp.MaxLine {
		return 0
	}
	n, ok := int64(0), false
	if end >= 2 {
		n, ok = resp.Number(b[i+1 : i+end-1])
	}
	end++
	if !ok || n < -1 || n > resp.MaxLength {
		m.blind = true
		m.give(b, i, len(b))
		return len(b) - i
	}
	cost, elements := n, int64(0)
	array := b[i] != '$' && b[i] != '=' && b[i] != '!'
	if array {
		if elements = n; b[i] == '%' {
			elements *= 2
		}
		cost = elementSize * elements
	}
	m.drop = m.skip > 0
	if n > 0 && !m.drop {
		if why := m.charge(cost); why != uncut {
			m.drop = true
			m.instead(array, why)
		}
	}
	if m.drop {
		m.edited = true
	} else {
		m.give(b, i, i+end)
	}
	switch {
	case n < 0 || n == 0 && array:
		m.over()
	case !array:
		m.left = n + int64(len(resp.CRLF))
	case !m.drop:
		m.stack = append(m.stack, elements)
	case m.skip == 0:
		m.skip = elements
	default:
		m.skip += elements - 1 // they take its own place
	}
	return end
}

// charge counts bytes of the present reply, and returns why they are to be dropped, if
// they are.
func (m *meter) charge(cost int64) cut {
	s := m.share()
	// These bytes stand for a command's whole answer: Redis' own frame of a transaction is
	// as long as the client's commands, and so short a reply only tells that a command was
	// carried out.
	if outer := len(m.stack) == 0; m.dead || outer && s.framed && !m.line || cost <= elementSize && !m.line && (outer || s.framed && len(m.stack) == 1) {
		return uncut
	}
	if s.cut != uncut {
		return s.cut
	}
	switch s.spent += cost; {
	case s.spent-s.base > s.budget:
		m.note(s, tooLong)
		return tooLong
	case s.spent <= shortAnswer || s.spent <= s.charged:
		return uncut
	}
	sum := s.spent
	if len(m.stack) > 0 { // there is more to come
		sum = max(sum, min(s.charged+chargeStep, s.base+s.budget))
	}
	if more := sum - max(s.charged, s.room); more <= 0 || m.ledger.take(more) || s.always && m.ledger.force(more) {
		s.charged = sum
		return uncut
	}
	m.note(s, noRoom)
	s.need = s.spent
	if len(m.stack) > 0 {
		s.need = s.budget
	}
	return noRoom
}

// note notes that something of a share is dropped.
func (m *meter) note(s *allowance, why cut) {
	s.cut = why
	m.cuts++
	m.seen.Add(1)
}

// words are what stands in the place of what is dropped.
func (m *meter) words(why cut) string {
	if why == noRoom {
		return cutWords + "R"
	}
	return cutWords + "L"
}

// instead gives something in the place of an element that is dropped. What is
// inside an answer that is spoiled already needs no words.
func (m *meter) instead(array bool, why cut) {
	switch {
	case len(m.stack) <= 1 || !m.spoiled:
		m.put("-" + m.words(why) + resp.CRLF)
		m.spoiled = true
	case array:
		m.put("*-1\r\n")
	default:
		m.put("$-1\r\n")
	}
}

// over is the end of an element.
func (m *meter) over() {
	if m.skip > 0 {
		if m.skip--; m.skip > 0 {
			return
		}
	}
	for n := len(m.stack); n > 0; n = len(m.stack) {
		if n == 1 {
			m.spoiled = false
			if s := m.share(); s.each {
				s.base, s.spent, s.cut = s.charged, s.charged, uncut
			}
		}
		if m.stack[n-1]--; m.stack[n-1] > 0 {
			return
		}
		m.stack = m.stack[:n-1]
	}
	m.replied()
}

// replied is the end of a reply.
func (m *meter) replied() {
	m.spoiled = false
	if m.at < len(m.shares) {
		if m.past++; m.past == m.shares[m.at].replies {
			m.at, m.past = m.at+1, 0
		}
		return
	}
	if m.keep {
		m.loose += m.own.charged
	} else if m.own.charged > 0 {
		m.ledger.give(m.own.charged)
	}
	m.own = m.each
}

// abandon gives back what was charged for replies that do not come any more.
func (m *meter) abandon() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ledger.give(m.loose + m.own.charged)
	m.loose, m.own.charged, m.dead = 0, 0, true
}

// isCut reports whether a part of an answer was dropped, and whether the reason was
// that there was no room.
func isCut(m *rueidis.RedisMessage) (yes, room bool) {
	if m.IsArray() {
		list, _ := m.ToArray()
		for i := range list {
			if yes, room := isCut(&list[i]); yes {
				return yes, room
			}
		}
		return false, false
	}
	text, _ := m.ToString() // of an error, too
	return cutIn(text)
}

// cutIn is isCut for a text.
func cutIn(text string) (yes, room bool) {
	if len(text) <= len(cutWords) || !strings.HasSuffix(text[:len(text)-1], cutWords) {
		return false, false
	}
	return true, text[len(text)-1] == 'R'
}
