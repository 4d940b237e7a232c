package web

import (
	"strconv"
	"sync/atomic"
	"time"
)

// The types of content that most responses have.
const (
	textPlain       = "text/plain; charset=utf-8"
	applicationJSON = "application/json"
	octetStream     = "application/octet-stream"
)

// httpDate is the layout of a time in HTTP (RFC 9110, section 5.6.7).
const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"

// head renders the header of responses with status 200, in the HTTP server's bytes, from pieces
// that are made once. Several goroutines may use it at a time.
type head struct {
	fields []byte // the lines that every response has
	date   atomic.Pointer[dated]
}

// dated has everything up to the length, with the date of one second, for the types that most
// responses have.
type dated struct {
	second     int64
	text, json []byte
	rest       []byte // up to the type, for other types
}

func newHead(fields [][2][]byte) *head {
	h := &head{}
	for _, f := range fields {
		h.fields = append(append(append(append(h.fields, f[0]...), ": "...), f[1]...), "\r\n"...)
	}
	return h
}

const lengthLine = "\r\nContent-Length: "

// append appends the header of a response whose body has that type and length, up to and including
// the fields of every response.
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
