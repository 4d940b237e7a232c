package urlquery

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzQuery compares the parser of queries with the standard library's: what both accept has to
// mean the same.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{"", "key=k&value=v", "key=a+b%20c", "a&key", "key=%zz", "%6bey=1", "key=1&key=2", "key==", "_token=x&key=%", "key=a;b"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		got, there, err := Parameter([]byte(query), "key")
		want, wrong := url.ParseQuery(query)
		if err != nil || wrong != nil || strings.Contains(query, ";") {
			return
		}
		if there != want.Has("key") || string(got) != want.Get("key") {
			t.Errorf("%q: %q, %v; want %q", query, got, there, want["key"])
		}
	})
}
