package web

import (
	"bytes"
	"fmt"
)

// parameter finds a parameter in a raw query string (application/x-www-form-
// urlencoded: pairs by &, + is a blank, %XX is a byte). It answers false when
// the parameter is not there; the first of several counts. An escape that is
// none is an error: the bytes that the client meant cannot be known.
func parameter(query []byte, name string) ([]byte, bool, error) {
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte("&"))
		rawKey, rawValue, _ := bytes.Cut(pair, []byte("="))
		key, err := unescape(rawKey)
		if err != nil {
			return nil, false, err
		}
		if string(key) != name {
			continue
		}
		value, err := unescape(rawValue)
		return value, err == nil, err
	}
	return nil, false, nil
}

// unescape decodes + and %XX into a new slice.
func unescape(s []byte) ([]byte, error) {
	return appendUnescaped(make([]byte, 0, len(s)), s, true)
}

// appendUnescaped appends s with %XX decoded; with + as a blank, too, as it is
// in a query and nowhere else.
func appendUnescaped(dst, s []byte, plus bool) ([]byte, error) {
	for {
		i := bytes.IndexByte(s, '%')
		part := s
		if i >= 0 {
			part = s[:i]
		}
		begin := len(dst)
		dst = append(dst, part...)
		if plus {
			for j := begin; j < len(dst); j++ {
				if dst[j] == '+' {
					dst[j] = ' '
				}
			}
		}
		if i < 0 {
			return dst, nil
		}
		s = s[i:]
		if len(s) < 3 {
			return nil, badRequest(fmt.Sprintf("ERR the URL has an incomplete escape, %q; a percent sign itself is %%25", s))
		}
		high, ok1 := hex(s[1])
		low, ok2 := hex(s[2])
		if !ok1 || !ok2 {
			return nil, badRequest(fmt.Sprintf("ERR the URL has an escape that is none, %q; a percent sign itself is %%25", s[:3]))
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
