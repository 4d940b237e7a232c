package response

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"unicode/utf8"

	"holdfast/internal/redis"
)

// The encoders append to a buffer and look at each byte once: encoding is most of the work that
// this process itself does for a response.

// AppendResult appends a command's result as {"result":…} or {"error":"…"}.
func AppendResult(dst []byte, r *redis.Result, inBase64 bool) []byte {
	if r.Err != nil {
		_, words := Outcome(r.Err)
		return appendError(dst, words)
	}
	dst = append(dst, `{"result":`...)
	if r.Reply.Type() == redis.Text {
		if text := r.Reply.Text(); !inBase64 || text == "OK" {
			// OK stays as it is: it is not base64 of anything (RFC 4648 pads it to OK==), so it
			// cannot be mistaken.
			dst = AppendString(dst, text)
		} else {
			dst = appendBase64(dst, text)
		}
	} else {
		dst = appendReply(dst, &r.Reply, inBase64)
	}
	return append(dst, '}')
}

// appendError appends {"error":"words"}.
func appendError(dst []byte, words string) []byte {
	dst = append(dst, `{"error":`...)
	dst = AppendString(dst, words)
	return append(dst, '}')
}

// appendReply appends a reply as JSON.
func appendReply(dst []byte, r *redis.Reply, inBase64 bool) []byte {
	switch r.Type() {
	case redis.Text:
		if inBase64 {
			return appendBase64(dst, r.Text())
		}
		return AppendString(dst, r.Text())
	case redis.Integer:
		return strconv.AppendInt(dst, r.Int(), 10)
	case redis.Array:
		dst = append(dst, '[')
		for i := range r.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			element := r.At(i)
			dst = appendReply(dst, &element, inBase64)
		}
		return append(dst, ']')
	case redis.Failure:
		// Only scripts make an error inside an array. As a string it could be taken for a value, or
		// for base64.
		return appendError(dst, r.Text())
	}
	return append(dst, "null"...)
}

func appendBase64(dst []byte, s string) []byte {
	dst = append(dst, '"')
	// The bytes of s are only read.
	dst = base64.StdEncoding.AppendEncode(dst, BytesOf(s))
	return append(dst, '"')
}

// Eight bytes are looked at in one word: ones has 1 in each of its bytes, highs the highest bit.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plainWord reports whether eight bytes stand for themselves in a JSON string. A byte below the
// blank, a quotation mark, a backslash and anything beyond ASCII set the highest bit of their byte.
func plainWord(w uint64) bool {
	quote, backslash := w^ones*'"', w^ones*'\\'
	return (w|(w-ones*' ')|(quote-ones)|(backslash-ones))&highs == 0
}

// plain returns how many bytes at the beginning of s stand for themselves in a JSON string. It
// looks at eight at a time.
func plain(s string) int {
	b := BytesOf(s)
	i := 0
	for ; i+8 <= len(b); i += 8 {
		if !plainWord(binary.LittleEndian.Uint64(b[i:])) {
			break
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

// AppendString appends s as a JSON string. A byte that is not UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte {
	return append(appendEscaped(append(dst, '"'), s), '"')
}

// appendEscaped is AppendString without the quotation marks.
func appendEscaped(dst []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	for {
		n := plain(s)
		dst = append(dst, s[:n]...)
		if s = s[n:]; s == "" {
			return dst
		}
		size := 1
		switch c := s[0]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			// A run of what is beyond ASCII.
			for size = 0; size < len(s) && s[size] >= utf8.RuneSelf; {
				r, width := utf8.DecodeRuneInString(s[size:])
				if r == utf8.RuneError && width == 1 {
					dst = append(dst, "\uFFFD"...)
				} else {
					dst = append(dst, s[size:size+width]...)
				}
				size += width
			}
		}
		s = s[size:]
	}
}

// AppendRESP appends a command's result as Redis itself would send it (RESP2).
func AppendRESP(dst []byte, r *redis.Result) []byte {
	if r.Err != nil {
		_, words := Outcome(r.Err)
		return appendFailure(dst, words)
	}
	return appendRESPReply(dst, &r.Reply)
}

// appendFailure appends an error in RESP2. It takes one line, so line ends become blanks.
func appendFailure(dst []byte, words string) []byte {
	dst = append(dst, '-')
	for i := range len(words) {
		if c := words[i]; c == '\r' || c == '\n' {
			dst = append(dst, ' ')
		} else {
			dst = append(dst, c)
		}
	}
	return append(dst, "\r\n"...)
}

func appendRESPReply(dst []byte, r *redis.Reply) []byte {
	switch r.Type() {
	case redis.Text:
		text := r.Text()
		if r.Simple() {
			dst = append(dst, '+')
		} else {
			dst = appendHead(dst, '$', int64(len(text)))
		}
		dst = append(dst, text...)
		return append(dst, "\r\n"...)
	case redis.Integer:
		return appendHead(dst, ':', r.Int())
	case redis.Array:
		n := r.Len()
		dst = appendHead(dst, '*', int64(n))
		for i := range n {
			element := r.At(i)
			dst = appendRESPReply(dst, &element)
		}
		return dst
	case redis.Failure:
		return appendFailure(dst, r.Text())
	}
	return append(dst, "$-1\r\n"...)
}

func appendHead(dst []byte, kind byte, n int64) []byte {
	dst = append(dst, kind)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n"...)
}
