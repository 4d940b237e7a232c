// Package meter bounds what answers take of this process' memory. A Meter counts the replies
// of a connection as they come, and drops those that are too long or find no room. The room
// is a Ledger's, which all connections of a client share.
package meter

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/resp"
)

// The client library reads each reply into memory as a whole, whatever its length. So a
// connection counts what replies take as they come: Redis sends the length of a string and
// of an array before its content. What is over the bound, or finds no room, never reaches
// the library. It is read and dropped piece by piece, and a short error takes its place. The
// connection stays in step, and the other requests on it are not affected.

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

// Allowance is what the replies to some commands may take together.
type Allowance struct {
	Replies int // how many replies these are; 0: each one by itself
	// Framed: each reply is an array of answers, as EXEC's. Each: these are of different
	// requests, and each may take the budget.
	Framed, Each bool
	Budget       int64 // bytes
	// Room was taken before. Always: it has to be given if there is any room at all, since
	// the commands may write.
	Room   int64
	Always bool

	// base is what was charged before the present one of them, where they are of
	// different requests.
	base, Spent, Charged int64
	cut                  cut
	Need                 int64 // how much room is to be taken before another attempt, for noRoom
}

// Meter counts the replies of one connection. The reader of the connection calls Read.
// The sender of the commands may call the rest while no reply is outstanding or when
// the connection has ended.
type Meter struct {
	Ledger *Ledger
	Each   Allowance     // of a reply that belongs to no share
	Keep   bool          // what is charged stays so until End takes it
	Seen   *atomic.Int64 // counts what is dropped

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
	Own     Allowance // of the reply that is under way, where none was told

	mu     sync.Mutex
	shares []Allowance
	at     int   // the present share
	past   int   // its replies that are over
	loose  int64 // charged for replies that belong to no share
	cuts   int   // since begin
	dead   bool  // the connection has ended
}

// Begin tells how the replies to come belong together. Those behind them are each
// by itself.
func (m *Meter) Begin(shares []Allowance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shares, m.at, m.past, m.cuts = shares, 0, 0, 0
}

// End takes the shares back when the replies are there, or none comes any more. loose
// is what was charged for others since begin, and cuts how often something was
// dropped.
func (m *Meter) End() (loose int64, cuts int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	loose, m.loose = m.loose, 0
	m.shares, m.at, m.past = nil, 0, 0
	return loose, m.cuts
}

// share returns the allowance of the present reply. The caller holds the mutex.
func (m *Meter) share() *Allowance {
	if m.at < len(m.shares) {
		return &m.shares[m.at]
	}
	return &m.Own
}

// Read is io.Reader's, from a connection, without what is dropped.
func (m *Meter) Read(conn io.Reader, p []byte) (int, error) {
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
func (m *Meter) give(b []byte, from, to int) {
	if m.edited {
		m.out = append(m.out, b[from:to]...)
	} else {
		m.good = to
	}
}

// put has other bytes given in the place of what comes.
func (m *Meter) put(text string) {
	m.edited = true
	m.out = append(m.out, text...)
}

// pass looks at what was read.
func (m *Meter) pass(b []byte) {
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
func (m *Meter) passLine(b []byte, i int) int {
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
func (m *Meter) head(b []byte, i int) int {
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
func (m *Meter) charge(cost int64) cut {
	s := m.share()
	// These bytes stand for a command's whole answer: Redis' own frame of a transaction is
	// as long as the client's commands, and so short a reply only tells that a command was
	// carried out.
	if outer := len(m.stack) == 0; m.dead || outer && s.Framed && !m.line || cost <= elementSize && !m.line && (outer || s.Framed && len(m.stack) == 1) {
		return uncut
	}
	if s.cut != uncut {
		return s.cut
	}
	switch s.Spent += cost; {
	case s.Spent-s.base > s.Budget:
		m.note(s, tooLong)
		return tooLong
	case s.Spent <= ShortAnswer || s.Spent <= s.Charged:
		return uncut
	}
	sum := s.Spent
	if len(m.stack) > 0 { // there is more to come
		sum = max(sum, min(s.Charged+chargeStep, s.base+s.Budget))
	}
	if more := sum - max(s.Charged, s.Room); more <= 0 || m.Ledger.Take(more) || s.Always && m.Ledger.Force(more) {
		s.Charged = sum
		return uncut
	}
	m.note(s, noRoom)
	s.Need = s.Spent
	if len(m.stack) > 0 {
		s.Need = s.Budget
	}
	return noRoom
}

// note notes that something of a share is dropped.
func (m *Meter) note(s *Allowance, why cut) {
	s.cut = why
	m.cuts++
	m.Seen.Add(1)
}

// words are what stands in the place of what is dropped.
func (m *Meter) words(why cut) string {
	if why == noRoom {
		return cutWords + "R"
	}
	return cutWords + "L"
}

// instead gives something in the place of an element that is dropped. What is
// inside an answer that is spoiled already needs no words.
func (m *Meter) instead(array bool, why cut) {
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
func (m *Meter) over() {
	if m.skip > 0 {
		if m.skip--; m.skip > 0 {
			return
		}
	}
	for n := len(m.stack); n > 0; n = len(m.stack) {
		if n == 1 {
			m.spoiled = false
			if s := m.share(); s.Each {
				s.base, s.Spent, s.cut = s.Charged, s.Charged, uncut
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
func (m *Meter) replied() {
	m.spoiled = false
	if m.at < len(m.shares) {
		if m.past++; m.past == m.shares[m.at].Replies {
			m.at, m.past = m.at+1, 0
		}
		return
	}
	if m.Keep {
		m.loose += m.Own.Charged
	} else if m.Own.Charged > 0 {
		m.Ledger.Give(m.Own.Charged)
	}
	m.Own = m.Each
}

// Abandon gives back what was charged for replies that do not come any more.
func (m *Meter) Abandon() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Ledger.Give(m.loose + m.Own.Charged)
	m.loose, m.Own.Charged, m.dead = 0, 0, true
}

// IsCut reports whether a part of an answer was dropped, and whether the reason was
// that there was no room.
func IsCut(m *rueidis.RedisMessage) (yes, room bool) {
	if m.IsArray() {
		list, _ := m.ToArray()
		for i := range list {
			if yes, room := IsCut(&list[i]); yes {
				return yes, room
			}
		}
		return false, false
	}
	text, _ := m.ToString() // of an error, too
	return CutIn(text)
}

// CutIn is IsCut for a text.
func CutIn(text string) (yes, room bool) {
	if len(text) <= len(cutWords) || !strings.HasSuffix(text[:len(text)-1], cutWords) {
		return false, false
	}
	return true, text[len(text)-1] == 'R'
}

// Length returns how long an answer is, as a Meter counts it.
func Length(m *rueidis.RedisMessage) int64 {
	if !m.IsArray() {
		text, _ := m.ToString() // of an error, too
		return int64(len(text))
	}
	list, _ := m.ToArray()
	n := int64(elementSize * len(list))
	for i := range list {
		n += Length(&list[i])
	}
	return n
}

// Charged returns what an answer of that length takes of the room for long ones, about.
func Charged(length int64) int64 {
	if length <= ShortAnswer {
		return 0
	}
	return length
}
