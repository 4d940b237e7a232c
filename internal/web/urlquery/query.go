package urlquery

import (
	"bytes"
	"fmt"

	"holdfast/internal/web/response"
)

// Parameter returns a parameter of a raw query string (application/x-www-form-urlencoded: pairs
// separated by &, + is a blank, %XX is a byte), and reports whether it is there. The first of
// several counts. A bad escape is an error: the bytes that the client meant cannot be known.
func Parameter(query []byte, name string) ([]byte, bool, error) {
	raw, ok, err := Raw(query, name)
	if !ok || err != nil {
		return nil, false, err
	}
	value, err := AppendUnescaped(make([]byte, 0, len(raw)), raw, true)
	return value, err == nil, err
}

// Raw is parameter without unescaping the value.
func Raw(query []byte, name string) ([]byte, bool, error) {
	var buffer [32]byte
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte("&"))
		rawKey, rawValue, _ := bytes.Cut(pair, []byte("="))
		key, err := AppendUnescaped(buffer[:0], rawKey, true)
		if err != nil {
			return nil, false, err
		}
		if string(key) == name {
			return rawValue, true, nil
		}
	}
	return nil, false, nil
}

// AppendUnescaped appends s with each %XX decoded. plus: + is a blank, which it is in a query and
// nowhere else.
func AppendUnescaped(dst, s []byte, plus bool) ([]byte, error) {
	for {
		i := bytes.IndexByte(s, '%')
		part := s
		if i >= 0 {
			part = s[:i]
		}
		begin := len(dst)
		dst = append(dst, part...)
		if plus {
			for blanks := dst[begin:]; ; {
				j := bytes.IndexByte(blanks, '+')
				if j < 0 {
					break
				}
				blanks[j] = ' '
				blanks = blanks[j+1:]
			}
		}
		if i < 0 {
			return dst, nil
		}
		s = s[i:]
		if len(s) < 3 {
			return nil, response.BadRequest(fmt.Sprintf("ERR the URL has an incomplete escape, %q; a percent sign itself is %%25", s))
		}
		high, ok1 := hex(s[1])
		low, ok2 := hex(s[2])
		if !ok1 || !ok2 {
			return nil, response.BadRequest(fmt.Sprintf("ERR the URL has an escape that is none, %q; a percent sign itself is %%25", s[:3]))
		}
		dst = append(dst, high<<4|low)
		s = s[3:]
	}
}

func hex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
