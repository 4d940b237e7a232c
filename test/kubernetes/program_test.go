//go:build linux

package kubernetes

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/test/kube"
)

// counterText is a text that the chart and Kubernetes could misread.
const counterText = `5$ "net", #1 \n 'x' $(HOST)`

// counterValues are values of a stack whose entry leads to a program. The program is ready only with
// Redis, which it reaches through the balancers.
const counterValues = `
image: {repository: localhost/holdfast-stack, tag: test}
service: {type: NodePort, nodePort: 30066}
redis: {storage: 1Gi}
stack:
  network: trusted
  apps:
    web: {kv: {}}
    counter:
      image: localhost/counter:1
      port: 8000
      args: [all, "$HOME", "of $PORT"]
      env: {TEXT: '5$$ "net", #1 \n ''x'' $(HOST)'}
      health: {path: /counter/well}
  routes:
  - {path-prefix: /web, app: web, strip-prefix: true}
  - {app: counter}
`

// loadCounter loads images with two versions of the program in test/containers on all nodes.
func loadCounter(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "counter")
	build := exec.Command("go", "build", "-o", program, "../containers/testdata/counter")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1", "2"} {
		archive, err := kube.ImageAs("65534", "localhost/counter:"+version, "/counter", map[string][]byte{"counter": text, "version": []byte(version)})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "image.tar")
		if err := os.WriteFile(path, archive, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := cluster.Load(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
}

// counts is clients that have the program count.
type counts struct {
	url  string
	stop context.CancelFunc
	all  sync.WaitGroup

	mu      sync.Mutex
	seen    map[string]int // how often each number was the answer
	failed  []string
	longest time.Duration
}

// startCounts starts some clients, with at most 50 requests a second each. A POST is never sent
// again by a balancer once a program has it.
func startCounts(t *testing.T, url string, clients int) *counts {
	ctx, stop := context.WithCancel(context.Background())
	c := &counts{url: url, stop: stop, seen: map[string]int{}}
	t.Cleanup(c.end)
	for range clients {
		c.all.Go(func() {
			client := &http.Client{Timeout: 25 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				c.count(client)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	return c
}

func (c *counts) count(client *http.Client) {
	began := time.Now()
	number := ""
	answer, err := client.Post(c.url+"/counter/next", "", nil)
	if err == nil {
		body, readErr := io.ReadAll(answer.Body)
		answer.Body.Close()
		if words := strings.SplitN(string(body), " ", 3); answer.StatusCode == http.StatusOK && readErr == nil && len(words) == 3 {
			number = words[1]
		} else {
			err = fmt.Errorf("%s %q %v", answer.Status, body, readErr)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.longest = max(c.longest, time.Since(began))
	if err != nil {
		c.failed = append(c.failed, time.Now().UTC().Format("15:04:05.000 ")+err.Error())
		return
	}
	c.seen[number]++
}

// while counts during a step, and fails the test if more requests fail than may.
func (c *counts) while(t *testing.T, may int, step func()) {
	t.Helper()
	c.mu.Lock()
	before := len(c.seen)
	c.failed, c.longest = nil, 0
	c.mu.Unlock()
	step()
	time.Sleep(time.Second) // some of the time after it
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Logf("%d of %d requests failed, the longest took %v", len(c.failed), len(c.failed)+len(c.seen)-before, c.longest.Round(time.Millisecond))
	if len(c.failed) > may {
		t.Errorf("%d requests failed, at most %d may: %q", len(c.failed), may, c.failed[:min(5, len(c.failed))])
	}
	if len(c.seen)-before < 50 {
		t.Errorf("only %d requests were answered: that proves nothing", len(c.seen)-before)
	}
}

func (c *counts) end() {
	c.stop()
	c.all.Wait()
}

func TestAProgramOfOnesOwn(t *testing.T) {
	const space = "program"
	if err := loadImage(); err != nil {
		t.Fatal(err)
	}
	loadCounter(t)
	namespace(t, space)
	kubectl(t, "label", "namespace", space, "pod-security.kubernetes.io/enforce=restricted")
	values := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(values, []byte(counterValues), 0o644); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	helm(t, space, "install", "shop", chartDir, "--values", values, "--wait", "--timeout", "4m")
	areReady(t, space, 12)
	t.Logf("installed after %v", time.Since(began).Round(time.Second))
	address, err := cluster.Forward(t.Context(), kube.NodeAddress(1)+":30066")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + address
	eventually(t, "the entry leads to the program", func() error { // the balancers were ready before it
		_, err := get(http.DefaultClient, url+"/")
		return err
	})
	asked := func(t *testing.T, path string) string {
		t.Helper()
		got, err := get(http.DefaultClient, url+path)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}

	t.Run("it has what its stack file says", func(t *testing.T) {
		for path, want := range map[string]string{
			"/": "all $HOME of 8000", "/counter/version": "1", "/counter/rights": "uid 65534, / false, /tmp true",
		} {
			if got := asked(t, path); got != want {
				t.Errorf("%s is %q, want %q", path, got, want)
			}
		}
		words := strings.SplitN(asked(t, "/counter/next"), " ", 3)
		if len(words) != 3 || words[2] != counterText || !strings.HasPrefix(words[0], "shop-counter-") {
			t.Errorf("it answers %q", words)
		}
		if got := asked(t, "/web/get/counter"); got != fmt.Sprintf(`{"result":%q}`, words[1]) {
			t.Errorf("the web nodes read %s of the count %s", got, words[1])
		}
	})

	t.Run("it reaches Redis through the balancers alone, and strangers do not reach it", func(t *testing.T) {
		for to, may := range map[string]bool{
			"shop-redis-master:6378": true, "shop-redis-0:6379": false, "shop-redis-0:6300": false, "shop-sentinel-0:26379": false,
		} {
			eventually(t, fmt.Sprintf("it reaches %s: %v", to, may), func() error {
				if _, err := get(http.DefaultClient, url+"/counter/connect/"+to); (err == nil) != may {
					return fmt.Errorf("%v", err)
				}
				return nil
			})
		}
		stranger := newVisitor(t, "default")
		closed := []string{"shop-redis-master." + space + ".svc.cluster.local:6378"}
		for _, ip := range podsOf(t, space, "counter") {
			closed = append(closed, ip+":8000")
		}
		for _, to := range closed {
			eventually(t, "a stranger does not reach "+to, func() error {
				if stranger.connects(to) == nil {
					return fmt.Errorf("it does")
				}
				return nil
			})
		}
	})

	c := startCounts(t, url, 4)
	t.Run("a new version", func(t *testing.T) {
		others, passwords := othersOf(t, space), passwordsOf(t, space)
		c.while(t, 0, func() {
			helm(t, space, "upgrade", "shop", chartDir, "--reuse-values", "--set", "stack.apps.counter.image=localhost/counter:2", "--wait", "--timeout", "4m")
			areReady(t, space, 12) // the former pods are gone
		})
		for range 20 {
			if got := asked(t, "/counter/version"); got != "2" {
				t.Fatalf("version %q answers", got)
			}
		}
		if now := othersOf(t, space); !slices.Equal(now, others) {
			t.Errorf("other pods are new:\n%s\nbefore:\n%s", now, others)
		}
		if now := passwordsOf(t, space); now != passwords {
			t.Error("its password or the seed is another one")
		}
	})
	t.Run("a pod is killed", func(t *testing.T) {
		c.while(t, 4, func() { // the one request of each client
			pods := strings.Fields(kubectl(t, "-n", space, "get", "pods", "-l", "app.kubernetes.io/component=counter", "-o", "jsonpath={.items[*].metadata.name}"))
			kubectl(t, "-n", space, "delete", "pod", pods[0], "--force", "--grace-period=0")
			areReady(t, space, 12)
		})
	})
	t.Run("a switchover", func(t *testing.T) {
		c.while(t, 0, func() { leadTo(t, space, "redis-2") })
		if pod := masterPod(t, space); pod != "shop-redis-1" {
			t.Errorf("%s is the master", pod)
		}
	})

	c.end()
	for number, times := range c.seen {
		if times != 1 {
			t.Errorf("%d requests got the count %s", times, number)
		}
	}
	var count int
	if _, err := fmt.Sscanf(asked(t, "/web/get/counter"), `{"result":"%d"}`, &count); err != nil || count < len(c.seen) {
		t.Errorf("the count is %d, %v, after %d acknowledged requests", count, err, len(c.seen))
	}
}

// othersOf returns the pods that are not the program's, by name and identity.
func othersOf(t *testing.T, space string) []string {
	t.Helper()
	all := strings.Fields(kubectl(t, "-n", space, "get", "pods", "-l", "app.kubernetes.io/component!=counter", "-o",
		`jsonpath={range .items[*]}{.metadata.name}={.metadata.uid}{"\n"}{end}`))
	slices.Sort(all)
	return all
}

// passwordsOf returns the seed and the program's password.
func passwordsOf(t *testing.T, space string) string {
	t.Helper()
	return kubectl(t, "-n", space, "get", "secrets", "shop", "shop-counter", "-o", "jsonpath={.items[*].data}")
}
