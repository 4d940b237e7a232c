package rewrite

import (
	"strconv"
	"testing"
)

// FuzzCursor: a cursor is read as strtoul reads it, or is none.
func FuzzCursor(f *testing.F) {
	for _, cursor := range []string{"0", "00", "1", "18446744073709551615", "18446744073709551616", "-1", "+1", " 1", "x", ""} {
		f.Add(cursor)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		n, begins, ok := ReadCursor(cursor)
		if want, err := strconv.ParseUint(cursor, 10, 64); err == nil && (!ok || n != want || begins != (want == 0)) {
			t.Errorf("%q: %d, %v, %v", cursor, n, begins, ok)
		}
		OriginOf("x").Take(cursor)
	})
}
