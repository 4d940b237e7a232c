// Package resp is Redis' protocol: replies as values, and commands and replies as bytes.
// Commands are encoded here, replies are found piece by piece (Scanner), read (Value) or
// waited for (ReadFrame). What the client library reads comes as a Reply, too. Connections
// do not live here.
package resp

import (
	"bytes"
	"strconv"
	"strings"
)

// CRLF ends each line of the protocol RESP2 (Redis manual, "Redis serialization protocol
// specification").
const CRLF = "\r\n"

// AppendCommand appends a command as an array of bulk strings.
func AppendCommand(b []byte, words []string) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(words)), 10), CRLF...)
	for _, w := range words {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(w)), 10), CRLF...)
		b = append(append(b, w...), CRLF...)
	}
	return b
}

// Scanner finds the end of a reply that comes piece by piece. It looks at each byte once,
// except for a line or a string that is not complete.
type Scanner struct {
	At   int // how far it has looked
	left int // how many elements are to come; 0: no reply was begun
}

// Whole reports whether a reply in b is complete. It begins where the scanner was when the
// last one ended, and At is its end then. The error is ErrProtocol.
func (k *Scanner) Whole(b []byte) (bool, error) {
	if k.left == 0 {
		k.left = 1
	}
	for k.left > 0 {
		n, more, err := piece(b[k.At:])
		if n == 0 || err != nil {
			return false, err
		}
		k.At += n
		if k.left += more - 1; k.left > MaxLength {
			return false, ErrProtocol
		}
	}
	return true, nil
}

// piece returns the length of the line that b begins with, together with its string, and
// how many elements follow, if it is an array's. The length is 0 if it is not complete.
func piece(b []byte) (length, elements int, err error) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	end := bytes.IndexByte(b, '\n')
	switch {
	case end < 0 && len(b) > MaxLine && b[0] != '+' && b[0] != '-':
		return 0, 0, ErrProtocol
	case end < 0:
		return 0, 0, nil
	case end < 2 || b[end-1] != '\r':
		return 0, 0, ErrProtocol
	}
	kind, line := b[0], b[1:end-1]
	end++
	if kind == '+' || kind == '-' {
		return end, 0, nil
	}
	n, ok := Number(line)
	switch {
	case !ok:
	case kind == ':':
		return end, 0, nil
	case n < -1 || n > MaxLength:
	case kind == '*':
		return end, max(int(n), 0), nil
	case kind == '$' && n < 0:
		return end, 0, nil
	case kind == '$':
		end += int(n) + len(CRLF)
		if end > len(b) {
			return 0, 0, nil
		}
		if b[end-2] == '\r' && b[end-1] == '\n' {
			return end, 0, nil
		}
	}
	return 0, 0, ErrProtocol
}

// MaxLine is more than the line of a length takes, and MaxLength more than Redis sends at
// once.
const (
	MaxLine   = 32
	MaxLength = 1 << 32
)

// Number reads a number. Redis does not write a + before one.
func Number[T string | []byte](text T) (n int64, ok bool) {
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

// Int returns the number that a text is; 0 if it is not one.
func Int(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// Read makes r the reply that s begins with, and returns what follows. The reply has to be
// complete: see Scanner. What it refers to are parts of s.
func (r *Value) Read(s string) string {
	end := strings.IndexByte(s, '\n')
	line, rest := s[1:end-1], s[end+1:]
	switch s[0] {
	case '+':
		r.Kind, r.Text, r.simple = Text, line, true
	case '-':
		r.Kind, r.Text = Failure, line
	case ':':
		r.Kind = Integer
		r.Int, _ = Number(line)
	case '$':
		if n, _ := Number(line); n >= 0 {
			r.Kind, r.Text = Text, rest[:n]
			return rest[int(n)+len(CRLF):]
		}
	case '*':
		n, _ := Number(line)
		if n < 0 {
			break
		}
		r.Kind, r.Items = Array, make([]Reply, n)
		all := make([]Value, n)
		for i := range all {
			r.Items[i].made = &all[i]
			rest = all[i].Read(rest)
		}
	}
	return rest
}

// MasterRole reads a reply to ROLE, with which text begins: whether it is a master's, its
// offset, and how many replicas it has (manual, ROLE).
func MasterRole(text string) (master bool, offset int64, online int) {
	text, ok := strings.CutPrefix(text, "*3\r\n$6\r\nmaster\r\n:")
	if !ok {
		return false, 0, 0
	}
	line, text, _ := strings.Cut(text, CRLF)
	list, _, ok := strings.Cut(text, CRLF)
	if offset, master = Number(line); !ok || !master || !strings.HasPrefix(list, "*") {
		return false, 0, 0
	}
	n, _ := Number(list[1:])
	return true, offset, max(0, int(n))
}
