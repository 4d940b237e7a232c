//go:build linux && (amd64 || arm64)

package test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// byUnixSocket matches a web node's line in CLIENT LIST (manual, CLIENT LIST: flag U).
var byUnixSocket = regexp.MustCompile(`(?m) name=web-\d .* flags=\w*U`)

func TestReadsGoByTheUnixSocketOfTheMaster(t *testing.T) {
	t.Parallel()
	s := newInstance(t, minimal(t))
	s.must("up", "-d")
	st := s.awaitHealthy()
	expect(t, st.Entry+"/set?key=k&value=v", 200, "OK. We have set k to be v")
	socket := filepath.Join(s.state, "nodes", s.master(), "redis.sock")
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v", socket, info, err)
	}
	s.await("a connection by the unix socket", 10*time.Second, func() bool {
		for range 20 {
			expect(t, st.Entry+"/get?key=k", 200, "v")
		}
		return byUnixSocket.MatchString(s.redisCLI(s.master(), "client", "list"))
	})
}
