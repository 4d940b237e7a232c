package meter

import (
	"fmt"
	"math"
	"sync/atomic"
)

const (
	// LargeAnswer is from how many bytes on an answer goes aside.
	LargeAnswer = 64 << 10
	// UnseenTwice is how many commands about one key go together while the length of
	// their answers is not known, and UnseenKeys is how many such keys one request may
	// have.
	UnseenTwice, UnseenKeys = 2, 16
	// After a batch whose answers are longer than TogetherAnswers, the next WaryBatches
	// batches have no more than WaryKeys commands about unseen keys each.
	TogetherAnswers = 4 << 20
	WaryBatches     = 1000
	WaryKeys        = 4
	// MaxAnswer is how many bytes an answer may have on a connection on which all requests wait
	// for the longest answer.
	MaxAnswer = 1 << 20
	// WaryFields is how many fields of an unseen key an Express asks for at once.
	WaryFields = 16
)

// missing stands for the answer to a GET of no key, or of an empty string: see package operation, bounded.go.
const missing = 1

// Lengths remembers how long answers were. Several keys share a place, and the last one
// that was learned has it. It is safe for concurrent use.
type Lengths [8192]atomic.Uint64 // the upper half of the key, and the length

// Of returns how long an answer was, 0 for one that goes with all others, and whether
// that is known.
func (l *Lengths) Of(key uint64) (length uint32, known bool) {
	v := l[key>>1%uint64(len(l))].Load()
	if length = uint32(v); length == missing {
		length = 0
	}
	return length, v>>32 == key>>32 && v != 0
}

// WasMissing reports whether the answer was to a GET of no key.
func (l *Lengths) WasMissing(key uint64) bool {
	return l[key>>1%uint64(len(l))].Load() == key>>32<<32|missing
}

// Learn remembers how long an answer was.
func (l *Lengths) Learn(key uint64, length int64) {
	if length <= LargeAnswer {
		length = 0
	}
	l.keep(key, uint64(min(length, math.MaxUint32)))
}

// LearnMissing remembers that the answer was to a GET of no key.
func (l *Lengths) LearnMissing(key uint64) { l.keep(key, missing) }

func (l *Lengths) keep(key, length uint64) {
	v := key>>32<<32 | length
	if at := &l[key>>1%uint64(len(l))]; at.Load() != v {
		at.Store(v)
	}
}

// Encounters counts how often each key occurs among some. Two keys may share a count.
type Encounters struct {
	round uint16
	slots [256]struct {
		key   uint32
		round uint16
		n     uint16
	}
}

// Begin forgets what was counted.
func (r *Encounters) Begin() {
	if r.round++; r.round == 0 {
		*r = Encounters{round: 1}
	}
}

// Add counts a key, and returns how often it has occurred.
func (r *Encounters) Add(key uint64) int {
	s := &r.slots[key>>1%uint64(len(r.slots))]
	if s.key != uint32(key>>32) || s.round != r.round {
		s.key, s.round, s.n = uint32(key>>32), r.round, 0
	}
	if s.n < math.MaxUint16 {
		s.n++
	}
	return int(s.n)
}

// AnswersHeld is how many answers of the greatest length a Client has room for at once,
// unless its configuration names another room. One client may have ClientAnswers of them.
const (
	AnswersHeld   = 6
	ClientAnswers = 4
)

// Answers is what a Client knows of its answers: the room for long ones, and how long they
// were lately.
type Answers struct {
	*Ledger
	longest int // how many bytes one answer may have
	Lengths Lengths
	// PlainReads is true if the Redis user has the right to GET, and not to the commands of
	// which a bounded read is made.
	PlainReads atomic.Bool
}

// NewAnswers returns what is known of no answer yet, with room for so many bytes of all answers
// together and of one.
func NewAnswers(room, longest int) *Answers {
	return &Answers{Ledger: NewLedger(int64(room), int64(room)*ClientAnswers/AnswersHeld), longest: longest}
}

// ErrTooLong is the cause of an answer that is too long.
func (a *Answers) ErrTooLong() error { return fmt.Errorf("at most %d bytes are possible", a.longest) }
