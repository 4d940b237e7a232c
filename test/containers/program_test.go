package containers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// counterText is a value of the environment that Compose and its env_file could misread.
const counterText = `5$ "net", #1 \n 'x'`

const counterFile = `
apps:
  web: {kv: {}}
  counter:
    image: COUNTER
    port: 8000
    args: [all, "$HOME", "of $PORT"]
    env: {TEXT: '5$$ "net", #1 \n ''x'''}
    grace: 5s
routes:
  - {path-prefix: /counter, app: counter}
  - {app: web}
`

// buildCounter makes the image of the program in testdata/counter.
func buildCounter(t *testing.T) (image string) {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "counter"), "./testdata/counter")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY counter /counter\nUSER 65534\nENTRYPOINT [\"/counter\"]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	image = "holdfast-test-counter"
	if out, err := exec.Command("docker", "build", "-q", "-t", image, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", image).Run() })
	return image
}

// counted is an answer of the counter.
type counted struct {
	node  string
	count int
	text  string
}

func count() (c counted, err error) {
	body, err := ask(first + "/counter/next")
	if err != nil {
		return c, err
	}
	words := strings.SplitN(body, " ", 3)
	if len(words) != 3 {
		return c, fmt.Errorf("it answers %q", body)
	}
	c.node, c.text = words[0], words[2]
	_, err = fmt.Sscan(words[1], &c.count)
	return c, err
}

// both waits until both nodes of the counter answer.
func (p *project) both() {
	p.t.Helper()
	seen := map[string]bool{}
	for deadline := time.Now().Add(time.Minute); len(seen) < 2; time.Sleep(50 * time.Millisecond) {
		if c, err := count(); err == nil {
			seen[c.node] = true
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("of the counter's nodes answer %v", seen)
		}
	}
}

func TestAProgramOfOnesOwnIsAnImageBesideTheStack(t *testing.T) {
	needCompose(t)
	p := exported(t, strings.ReplaceAll(counterFile, "COUNTER", buildCounter(t)))
	p.up()
	p.both()

	t.Run("it has what its stack file says", func(t *testing.T) {
		c, err := count()
		if err != nil || c.text != counterText {
			t.Errorf("TEXT is %q, %v; want %q", c.text, err, counterText)
		}
		if args, err := ask(first + "/counter"); err != nil || args != "all $HOME of 8000\n" {
			t.Errorf("its arguments are %q, %v", args, err)
		}
	})

	t.Run("it counts in the stack's Redis", func(t *testing.T) {
		c, err := count()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ask(first + "/get?key=counter"); err != nil || got != fmt.Sprint(c.count) {
			t.Errorf("the key is %q, %v; want %d", got, err, c.count)
		}
	})

	for _, step := range []struct {
		what string
		// fails is how many requests may fail: those that the container was working on, or that
		// were on their way to it on a connection that it closed.
		fails int
		do    func()
	}{
		{"a container is recreated", 4, func() { p.must("up", "-d", "--force-recreate", "--no-deps", "counter-1") }},
		{"a container is killed", 4, func() { p.docker("kill", container("counter-2")); p.must("up", "-d", "--no-deps", "counter-2") }},
		{"the master's container is killed", 4, func() {
			host := hostOf(t, p.well(), "master")
			if host == "one" {
				host = hostOf(t, p.well(), "replica") // host one has the entry that is asked
			}
			p.docker("kill", container(host))
			p.must("up", "-d", "--no-deps", host)
		}},
	} {
		t.Run(step.what, func(t *testing.T) {
			done := make(chan struct{})
			var mu sync.Mutex
			var failed []string
			asked, longest := 0, time.Duration(0)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for {
						select {
						case <-done:
							return
						case <-time.After(10 * time.Millisecond):
						}
						begun := time.Now()
						_, err := count()
						mu.Lock()
						asked++
						longest = max(longest, time.Since(begun))
						if err != nil {
							failed = append(failed, err.Error())
						}
						mu.Unlock()
					}
				})
			}
			time.Sleep(time.Second) // of the state without a fault
			step.do()
			p.both()
			p.well()
			close(done)
			all.Wait()
			t.Logf("%d of %d requests failed, the longest took %v", len(failed), asked, longest.Round(time.Millisecond))
			if len(failed) > step.fails || asked < 100 {
				t.Errorf("of %d requests failed %d, at most %d may: %q", asked, len(failed), step.fails, failed[:min(5, len(failed))])
			}
		})
	}

	t.Run("a second export keeps its containers' addresses", func(t *testing.T) {
		before, err := os.ReadFile(filepath.Join(p.dir, "compose.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		p.export()
		after, err := os.ReadFile(filepath.Join(p.dir, "compose.yaml"))
		if err != nil || string(before) != string(after) {
			t.Errorf("compose.yaml differs (%v):\n%s", err, after)
		}
		p.must("up", "-d")
		p.both()
	})
}
