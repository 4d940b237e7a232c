package redis

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// The protocol RESP2, as far as an Express speaks it (Redis manual, "Redis
// serialization protocol specification"). Everybody else has the client library
// for it.

const crlf = "\r\n"

// errNoReply: what came is not in Redis' protocol, or nobody asked for it.
var errNoReply = errors.New("this is no answer of Redis")

// appendCommand appends a command as an array of bulk strings.
func appendCommand(b []byte, words []string) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(words)), 10), crlf...)
	for _, w := range words {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(w)), 10), crlf...)
		b = append(append(b, w...), crlf...)
	}
	return b
}

// scan finds the end of a reply that comes piece by piece; it looks at each byte
// once, but for a line or a string that is not all there.
type scan struct {
	at   int // how far it is
	left int // how many elements are to come; 0: none was begun
}

// whole says that the reply is all there which began where scan did in b; at is
// its end then. It answers errNoReply when there is none.
func (k *scan) whole(b []byte) (bool, error) {
	if k.left == 0 {
		k.left = 1
	}
	for k.left > 0 {
		n, more, err := piece(b[k.at:])
		if n == 0 || err != nil {
			return false, err
		}
		k.at += n
		if k.left += more - 1; k.left > maxLength {
			return false, errNoReply
		}
	}
	return true, nil
}

// piece is how long the line is that b begins with, its string included; 0: it
// is not all there; and how many elements follow, of an array.
func piece(b []byte) (length, elements int, err error) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	end := bytes.IndexByte(b, '\n')
	switch {
	case end < 0 && len(b) > maxLine && b[0] != '+' && b[0] != '-':
		return 0, 0, errNoReply
	case end < 0:
		return 0, 0, nil
	case end < 2 || b[end-1] != '\r':
		return 0, 0, errNoReply
	}
	kind, line := b[0], b[1:end-1]
	end++
	if kind == '+' || kind == '-' {
		return end, 0, nil
	}
	n, ok := numeral(line)
	switch {
	case !ok:
	case kind == ':':
		return end, 0, nil
	case n < -1 || n > maxLength:
	case kind == '*':
		return end, max(int(n), 0), nil
	case kind == '$' && n < 0:
		return end, 0, nil
	case kind == '$':
		end += int(n) + len(crlf)
		if end > len(b) {
			return 0, 0, nil
		}
		if b[end-2] == '\r' && b[end-1] == '\n' {
			return end, 0, nil
		}
	}
	return 0, 0, errNoReply
}

// maxLine is more than a number takes, and maxLength more than Redis answers at
// once.
const (
	maxLine   = 32
	maxLength = 1 << 32
)

// numeral reads a number. Redis writes none with a +.
func numeral[T string | []byte](text T) (n int64, ok bool) {
	i := 0
	if len(text) > 0 && text[0] == '-' {
		i = 1
	}
	if i == len(text) || text[i] == '+' {
		return 0, false
	}
	if len(text) > 18 { // it may not fit
		n, err := strconv.ParseInt(string(text), 10, 64)
		return n, err == nil
	}
	for _, c := range []byte(text[i:]) {
		if c -= '0'; c > 9 {
			return 0, false
		}
		n = n*10 + int64(c)
	}
	if i > 0 {
		n = -n
	}
	return n, true
}

// read makes r the reply that s begins with, which is all there (see scan), and
// answers what follows.
func (r *madeReply) read(s string) string {
	end := strings.IndexByte(s, '\n')
	line, rest := s[1:end-1], s[end+1:]
	switch s[0] {
	case '+':
		r.kind, r.text, r.simple = Text, line, true
	case '-':
		r.kind, r.text = Failure, line
	case ':':
		r.kind = Integer
		r.int, _ = numeral(line)
	case '$':
		if n, _ := numeral(line); n >= 0 {
			r.kind, r.text = Text, rest[:n]
			return rest[int(n)+len(crlf):]
		}
	case '*':
		n, _ := numeral(line)
		if n < 0 {
			break
		}
		r.kind, r.items = Array, make([]Reply, n)
		all := make([]madeReply, n)
		for i := range all {
			r.items[i].made = &all[i]
			rest = all[i].read(rest)
		}
	}
	return rest
}

// standingOf is what a reply to ROLE, with which text begins, says of a master,
// and how many replicas it has; of anything else, that it is none (manual, ROLE).
func standingOf(text string) (s Standing, online int) {
	text, ok := strings.CutPrefix(text, "*3\r\n$6\r\nmaster\r\n:")
	if !ok {
		return s, 0
	}
	offset, text, _ := strings.Cut(text, crlf)
	list, _, ok := strings.Cut(text, crlf)
	if s.Offset, s.Master = numeral(offset); !ok || !s.Master || !strings.HasPrefix(list, "*") {
		return Standing{}, 0
	}
	n, _ := numeral(list[1:])
	return s, max(0, int(n))
}
