package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
)

// environment returns a getenv with fixed variables.
func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestTheWebNodeIsConfiguredByItsEnvironment(t *testing.T) {
	for _, test := range []struct {
		name string
		env  map[string]string
		want redis.Config
		err  string // part of the usage error
	}{
		{"a single Redis", map[string]string{"REDIS_URL": "redis://web:s3cret@10.0.0.1:7001/2"},
			redis.Config{Address: "10.0.0.1:7001", Username: "web", Password: "s3cret", DB: 2}, ""},
		{"the standard port", map[string]string{"REDIS_URL": "redis://localhost"},
			redis.Config{Address: "localhost:6379"}, ""},
		{"Sentinels", map[string]string{"REDIS_URL": "redis://web:s3cret@h:1/0", "REDIS_SENTINELS": "a:1, b:2", "REDIS_MASTER_NAME": "shop", "HOLDFAST_NODE": "web-1"},
			redis.Config{Sentinels: []string{"a:1", "b:2"}, MasterName: "shop", Address: "h:1", Username: "web", Password: "s3cret", Name: "web-1", MinAcks: 1}, ""},
		{"Sentinels by their URL", map[string]string{"REDIS_URL": "redis+sentinel://web:s3cret@a:1,b/shop"},
			redis.Config{Sentinels: []string{"a:1", "b:26379"}, MasterName: "shop", Username: "web", Password: "s3cret", MinAcks: 1}, ""},
		{"a cluster", map[string]string{"REDIS_URL": "redis+cluster://a:1,b:2"},
			redis.Config{Cluster: []string{"a:1", "b:2"}, MinAcks: 1}, ""},
		{"acknowledgements", map[string]string{"REDIS_URL": "redis://h", "HOLDFAST_MIN_ACKS": "2"},
			redis.Config{Address: "h:6379", MinAcks: 2}, ""},
		{"none wanted of Sentinels", map[string]string{"REDIS_SENTINELS": "a:1", "REDIS_MASTER_NAME": "m", "HOLDFAST_MIN_ACKS": "0"},
			redis.Config{Sentinels: []string{"a:1"}, MasterName: "m"}, ""},
		{"nothing", nil, redis.Config{}, "no Redis to serve from"},
		{"no name", map[string]string{"REDIS_SENTINELS": "a:1"}, redis.Config{}, "REDIS_MASTER_NAME"},
		{"a bad Sentinel", map[string]string{"REDIS_SENTINELS": "a", "REDIS_MASTER_NAME": "m"}, redis.Config{}, `"a"`},
		{"a bad scheme", map[string]string{"REDIS_URL": "http://u:s3cret@h"}, redis.Config{}, "redis://"},
		{"a bad URL", map[string]string{"REDIS_URL": "redis://u:s3cret@h:x"}, redis.Config{}, "redis://"},
		{"a bad database", map[string]string{"REDIS_URL": "redis://u:s3cret@h/x"}, redis.Config{}, "database"},
		{"a bad number", map[string]string{"REDIS_URL": "redis://h", "HOLDFAST_MIN_ACKS": "-1"}, redis.Config{}, `"-1"`},
		{"a bad port", map[string]string{"REDIS_URL": "redis://h", "PORT": "99999"}, redis.Config{}, "99999"},
		{"a bad node", map[string]string{"REDIS_URL": "redis://h", "HOLDFAST_NODE": "a\nb"}, redis.Config{}, "printable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newWebFlags()
			f.fill(environment(test.env))
			n, err := f.node()
			if test.err != "" {
				var usage usageError
				if !errors.As(err, &usage) || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("error %v, want a usage error with %q and no password", err, test.err)
				}
				return
			}
			test.want.Hold, test.want.MaxLag, test.want.MaxAnswer = 5*time.Second, time.Second, 64<<20
			if err != nil || !reflect.DeepEqual(n.redis, test.want) {
				t.Errorf("got %+v, %v\nwant %+v", n, err, test.want)
			}
		})
	}
}

// start runs a command until the test ends it. It returns the address that the command listens on,
// and a function that ends it and returns its stderr.
func start(t *testing.T, env map[string]string, args ...string) (addr string, stop func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	var log bytes.Buffer
	first, copied := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(copied)
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			log.Write(buf[:n])
			if _, rest, ok := strings.Cut(log.String(), "listen="); ok {
				addr, _, _ := strings.Cut(rest, " ")
				select {
				case first <- addr:
				default:
				}
			}
			if err != nil {
				return
			}
		}
	}()
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, args, nil, io.Discard, w, environment(env))
		w.Close()
	}()
	ended := false
	stop = func() string {
		if !ended {
			ended = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("%v: %v", args, err)
			}
			<-copied
		}
		return log.String()
	}
	t.Cleanup(func() { stop() })
	select {
	case addr := <-first:
		return addr, stop
	case err := <-done:
		t.Fatalf("%v ended: %v", args, err)
	case <-time.After(10 * time.Second):
		t.Fatalf("%v did not start", args)
	}
	return "", nil
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func TestTheWebCommandServesAndKeepsItsSecret(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	addr, end := start(t, map[string]string{
		"REDIS_URL": "redis://" + redistest.Username + ":" + redistest.Password + "@" + cluster.Nodes[0].Addr + "/0",
		"HOST":      "127.0.0.1", "PORT": "0", "HOLDFAST_NODE": "web-7",
	}, "web")
	redistest.Eventually(t, 5*time.Second, "a write is answered", func() bool {
		status, body := get(t, "http://"+addr+"/set?key=a&value=b")
		return status == 200 && body == "OK. We have set a to be b"
	})
	log := end()
	for _, part := range []string{"web node started", "web-7", "redis master found", "web node ended"} {
		if !strings.Contains(log, part) {
			t.Errorf("the log lacks %q:\n%s", part, log)
		}
	}
	if strings.Contains(log, redistest.Password) {
		t.Errorf("the log has the password:\n%s", log)
	}
}

func TestTheFilesCommandServes(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	addr, _ := start(t, nil, "files", "--dir", dir, "--listen", "127.0.0.1:0")
	if status, body := get(t, "http://"+addr+"/a.txt"); status != 200 || body != "a" {
		t.Errorf("%d %q", status, body)
	}
}

func TestFilesAndWebRefuseBadUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		args  []string
		usage bool
		text  string
	}{
		{[]string{"files"}, true, "--dir"},
		{[]string{"files", "--dir", filepath.Join(t.TempDir(), "none")}, true, "none"},
		{[]string{"files", "--dir", t.TempDir(), "--listen", "x"}, true, "host:port"},
		{[]string{"files", "--dir", t.TempDir(), "--listen", taken.Addr().String()}, false, "address already in use"},
		{[]string{"web", "--redis-url", "redis://h", "--listen", taken.Addr().String()}, false, "address already in use"},
		{[]string{"web", "--redis-url", "redis://h", "--hold", "0s"}, true, "--hold"},
	} {
		err := Run(t.Context(), test.args, nil, io.Discard, io.Discard, environment(nil))
		var usage usageError
		if err == nil || errors.As(err, &usage) != test.usage || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%v: %v", test.args, err)
		}
	}
}
