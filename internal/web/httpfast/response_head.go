package httpfast

import (
	"strconv"
	"sync/atomic"
	"time"
)

// The types of content that most responses have.
const (
	TextPlain   = "text/plain; charset=utf-8"
	JSON        = "application/json"
	OctetStream = "application/octet-stream"
)

// DateLayout is the layout of a time in HTTP (RFC 9110, section 5.6.7).
const DateLayout = "Mon, 02 Jan 2006 15:04:05 GMT"

// ResponseHead renders the header of responses with status 200, in the HTTP server's bytes, from pieces
// that are made once. Several goroutines may use it at a time.
type ResponseHead struct {
	fields []byte // the lines that every response has
	date   atomic.Pointer[datedHead]
}

// datedHead has everything up to the length, with the date of one second, for the types that most
// responses have.
type datedHead struct {
	second     int64
	text, json []byte
	rest       []byte // up to the type, for other types
}

// NewResponseHead returns a head with fields, each a name and a value, in every response.
func NewResponseHead(fields [][2][]byte) *ResponseHead {
	h := &ResponseHead{}
	for _, f := range fields {
		h.fields = append(append(append(append(h.fields, f[0]...), ": "...), f[1]...), "\r\n"...)
	}
	return h
}

const lengthLine = "\r\nContent-Length: "

// Append appends the header of a response whose body has that type and length, up to and including
// the fields of every response.
func (h *ResponseHead) Append(dst []byte, now time.Time, kind string, length int) []byte {
	d := h.date.Load()
	if second := now.Unix(); d == nil || d.second != second {
		rest := "HTTP/1.1 200 OK\r\nDate: " + now.UTC().Format(DateLayout) + "\r\nContent-Type: "
		d = &datedHead{second, []byte(rest + TextPlain + lengthLine), []byte(rest + JSON + lengthLine), []byte(rest)}
		h.date.Store(d)
	}
	switch kind {
	case TextPlain:
		dst = append(dst, d.text...)
	case JSON:
		dst = append(dst, d.json...)
	default:
		dst = append(append(append(dst, d.rest...), kind...), lengthLine...)
	}
	dst = append(strconv.AppendInt(dst, int64(length), 10), "\r\n"...)
	return append(dst, h.fields...)
}
