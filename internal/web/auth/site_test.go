package auth

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzSameOrigin: an origin that SameOrigin takes for the host's own names that host.
func FuzzSameOrigin(f *testing.F) {
	f.Add("http://a.example:80/x", "a.example")
	f.Add("https://[::1]:1", "[::1]:1")
	f.Add("http://a@b", "b")
	f.Fuzz(func(t *testing.T, origin, host string) {
		u, err := url.Parse(origin)
		if err != nil || u.User != nil || u.Host == "" || strings.ContainsAny(origin, "?#") {
			return
		}
		name, _, _ := strings.Cut(host, ":")
		if SameOrigin([]byte(origin), []byte(host)) && !strings.Contains(host, "[") && !strings.EqualFold(u.Hostname(), name) {
			t.Errorf("%q is taken for a page of %q", origin, host)
		}
	})
}
