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
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			out = append(out, ' ')
		case '%':
			if i+2 >= len(s) {
				return nil, badRequest(fmt.Sprintf("The query has an incomplete escape, %q; a percent sign itself is %%25.", s[i:]))
			}
			high, ok1 := hex(s[i+1])
			low, ok2 := hex(s[i+2])
			if !ok1 || !ok2 {
				return nil, badRequest(fmt.Sprintf("The query has an escape that is none, %q; a percent sign itself is %%25.", s[i:i+3]))
			}
			out = append(out, high<<4|low)
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return out, nil
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
