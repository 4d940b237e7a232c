package fasthandler

import (
	"testing"

	"holdfast/internal/web/httpfast"
)

// What a loop looks up in the cache without asking the table is what the table says, too.
func TestAPlainGetIsWhatTheTableSaysItIs(t *testing.T) {
	for _, target := range []string{"/get?key=k", "/get/k", "/get/k?x", "/get", "/get/", "/getx/k", "/GET/k", "/get?key=", "/get?key=%6b"} {
		var q httpfast.Request
		if !q.Parse([]byte("GET " + target + " HTTP/1.1\r\n" + "Host: x\r\n" + "\r\n")) {
			t.Fatalf("%s is not simple", target)
		}
		if key, came := plainGet(&q); len(key) > 0 && came != formOf(&q) {
			t.Errorf("%s: %d, and in the table %d", target, came, formOf(&q))
		}
	}
}
