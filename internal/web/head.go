package web

import (
	"strconv"
	"sync/atomic"
	"time"
)

// httpDate is how HTTP writes a time (RFC 9110, section 5.6.7).
const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"

// head is the header of good answers, as the HTTP server writes it, in pieces
// that are made once.
type head struct {
	fields []byte // the lines that are the same in every answer
	date   atomic.Pointer[dated]
}

// dated is everything up to the length, with a date in it, for the types that most
// answers are of.
type dated struct {
	second     int64
	text, json []byte
	rest       []byte // up to the type, for others
}

func newHead(fields [][2][]byte) *head {
	h := &head{}
	for _, f := range fields {
		h.fields = append(append(append(append(h.fields, f[0]...), ": "...), f[1]...), "\r\n"...)
	}
	return h
}

const lengthLine = "\r\nContent-Length: "

// append appends everything up to the fields of every answer: of one with a
// body of that type and length.
func (h *head) append(dst []byte, now time.Time, kind string, length int) []byte {
	d := h.date.Load()
	if second := now.Unix(); d == nil || d.second != second {
		rest := "HTTP/1.1 200 OK\r\nDate: " + now.UTC().Format(httpDate) + "\r\nContent-Type: "
		d = &dated{second, []byte(rest + textPlain + lengthLine), []byte(rest + applicationJSON + lengthLine), []byte(rest)}
		h.date.Store(d)
	}
	switch kind {
	case textPlain:
		dst = append(dst, d.text...)
	case applicationJSON:
		dst = append(dst, d.json...)
	default:
		dst = append(append(append(dst, d.rest...), kind...), lengthLine...)
	}
	dst = append(strconv.AppendInt(dst, int64(length), 10), "\r\n"...)
	return append(dst, h.fields...)
}
