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

// skip is how long the reply is that b begins with; 0: it is not all there;
// negative: there is none.
func skip(b []byte) int {
	at := 0
	for left := 1; left > 0; left-- {
		if at >= len(b) {
			return 0
		}
		end := bytes.IndexByte(b[at:], '\n')
		switch {
		case end < 0 && len(b)-at > maxLine && b[at] != '+' && b[at] != '-':
			return -1
		case end < 0:
			return 0
		case end < 2 || b[at+end-1] != '\r':
			return -1
		}
		kind, line := b[at], b[at+1:at+end-1]
		at += end + 1
		switch kind {
		case '+', '-':
		case ':':
			if _, ok := numeral(line); !ok {
				return -1
			}
		case '$', '*':
			n, ok := numeral(line)
			switch {
			case !ok || n < -1 || n > maxLength:
				return -1
			case kind == '*':
				left += max(int(n), 0)
			case n >= 0:
				at += int(n) + len(crlf)
				if at > len(b) {
					return 0
				}
				if b[at-2] != '\r' || b[at-1] != '\n' {
					return -1
				}
			}
		default:
			return -1
		}
	}
	return at
}

// maxLine is more than a number takes, and maxLength more than Redis answers at
// once.
const (
	maxLine   = 32
	maxLength = 1 << 40
)

// numeral reads a number.
func numeral(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil
}

// read makes r the reply that s begins with, which is all there (see skip), and
// answers what follows.
func (r *madeReply) read(s string) string {
	line, rest, _ := strings.Cut(s[1:], crlf)
	switch s[0] {
	case '+':
		r.kind, r.text, r.simple = Text, line, true
	case '-':
		r.kind, r.text = Failure, line
	case ':':
		r.kind, r.int = Integer, number(line)
	case '$':
		if n := int(number(line)); n >= 0 {
			r.kind, r.text = Text, rest[:n]
			return rest[n+len(crlf):]
		}
	case '*':
		n := number(line)
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

// standing is what a reply to ROLE says of a master, and how many replicas it
// has; of anything else, that it is none.
func (r *madeReply) standing() (s Standing, online int) {
	if r.kind != Array || len(r.items) < 3 || r.items[0].Text() != "master" {
		return s, 0
	}
	return Standing{Master: true, Offset: r.items[1].Int()}, r.items[2].Len()
}
