package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

// files writes each text to a file of its own, and returns the paths.
func files(t *testing.T, texts ...[]byte) (paths []string) {
	t.Helper()
	dir := t.TempDir()
	for i, text := range texts {
		path := filepath.Join(dir, string(rune('a'+i))+".pem")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func TestAWebNodeSpeaksTLSToRedisAndSentinels(t *testing.T) {
	cluster := redistest.StartTLS(t, 1, 3)
	pem := files(t, cluster.TLS.Authority, cluster.TLS.Certificate, cluster.TLS.Key)
	login := redistest.Username + ":" + redistest.Password + "@"
	bySentinels := "rediss+sentinel://" + login + strings.Join(cluster.SentinelAddrs(), ",") + "/" + redistest.MasterName
	for name, run := range map[string]struct {
		env  map[string]string
		args []string
	}{
		"by flags": {map[string]string{"REDIS_URL": bySentinels, "PORT": "0"},
			[]string{"web", "--redis-ca", pem[0], "--redis-cert", pem[1], "--redis-key", pem[2]}},
		"by the environment": {map[string]string{"REDIS_URL": bySentinels, "PORT": "0", "REDIS_CA": pem[0], "REDIS_CERT": pem[1], "REDIS_KEY": pem[2]},
			[]string{"web"}},
		"a single server": {map[string]string{"REDIS_URL": "rediss://" + login + cluster.Nodes[0].TLSAddr, "PORT": "0", "REDIS_CA": pem[0], "REDIS_CERT": pem[1], "REDIS_KEY": pem[2]},
			[]string{"web"}},
	} {
		addr, end := start(t, run.env, run.args...)
		redistest.Eventually(t, 10*time.Second, name+": a write is answered", func() bool {
			status, _ := get(t, "http://"+addr+"/set?key=a&value=b")
			return status == 200
		})
		end()
	}

	// Without the authority's certificate no server is trusted, and the node says so.
	addr, _ := start(t, map[string]string{"REDIS_URL": bySentinels, "PORT": "0", "HOLDFAST_HOLD": "300ms"}, "web")
	if status, body := get(t, "http://"+addr+"/set?key=a&value=b"); status != 503 {
		t.Errorf("an unknown authority: %d %s", status, body)
	}
	redistest.Eventually(t, 5*time.Second, "an unknown authority is named", func() bool {
		status, body := get(t, "http://"+addr+"/healthz/ready")
		return status == 503 && strings.Contains(body, "unknown authority")
	})
}

func TestWhatDoesNotFitTLSIsRefused(t *testing.T) {
	certs := redistest.StartTLS(t, 0, 0).TLS
	pem := files(t, certs.Authority, certs.Certificate, certs.Key, []byte("nonsense"))
	const tls, plain = "rediss://u:s3cret@h", "redis://u:s3cret@h"
	for _, c := range []struct {
		what string
		args []string
		says string
	}{
		{"without TLS", []string{"--redis-url", plain, "--redis-ca", pem[0]}, "rediss://"},
		{"without TLS, by Sentinels", []string{"--redis-url", "redis+sentinel://u:s3cret@h/m", "--redis-cert", pem[1], "--redis-key", pem[2]}, "rediss://"},
		{"no URL at all", []string{"--redis-sentinels", "a:1", "--redis-master-name", "m", "--redis-ca", pem[0]}, "rediss://"},
		{"no such file", []string{"--redis-url", tls, "--redis-ca", pem[0] + "x"}, "no such file"},
		{"no certificate in it", []string{"--redis-url", tls, "--redis-ca", pem[3]}, "no certificate"},
		{"a certificate alone", []string{"--redis-url", tls, "--redis-cert", pem[1]}, "belong together"},
		{"a key alone", []string{"--redis-url", tls, "--redis-key", pem[2]}, "belong together"},
		{"in the wrong order", []string{"--redis-url", tls, "--redis-cert", pem[2], "--redis-key", pem[1]}, "certificate and key"},
		{"a key that is none", []string{"--redis-url", tls, "--redis-cert", pem[1], "--redis-key", pem[3]}, "certificate and key"},
		{"clients by TLS without a certificate", []string{"--redis-url", plain, "--listen-tls", "127.0.0.1:0"}, "needs --tls-cert"},
		{"a certificate for no clients", []string{"--redis-url", plain, "--tls-cert", pem[1], "--tls-key", pem[2]}, "--listen-tls"},
		{"another key for clients", []string{"--redis-url", plain, "--listen-tls", "127.0.0.1:0", "--tls-cert", pem[1], "--tls-key", pem[3]}, "--tls-key"},
		{"no authority of clients", []string{"--redis-url", plain, "--listen-tls", "127.0.0.1:0", "--tls-cert", pem[1], "--tls-key", pem[2], "--tls-clients", pem[3]}, "no certificate"},
	} {
		err := Run(t.Context(), append([]string{"web", "--listen", "127.0.0.1:0"}, c.args...), nil, io.Discard, io.Discard, environment(nil))
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want a usage error with %q", c.what, err, c.says)
		}
	}
}
