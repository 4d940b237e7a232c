package test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// More writes are held for want of a master than the web nodes get at once. Requests that need no
// master are answered all the same, and the writes are executed when the master is back.
func TestHeldWritesKeepNobodyElseFromAnAnswer(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, fmt.Sprintf(`
entry: {listen: "127.0.0.1:%d"}
apps: {web: {kv: {hold: 10s}}}
`, freePort(t)))
	s.must("up", "-d")
	entry := s.awaitHealthy().Entry
	expect(t, entry+"/set/k/v", 200, `{"result":"OK"}`)

	// No failover happens while two of three Sentinels are away.
	away := []string{"sentinel-1", "sentinel-2", s.master()}
	for _, node := range away {
		s.must("pause", node)
	}
	const writers = 300
	var answered, good atomic.Int64
	var wait sync.WaitGroup
	for i := range writers {
		wait.Go(func() {
			request, err := http.NewRequest("GET", fmt.Sprintf("%s/set/w%d/v", entry, i), nil)
			if err != nil {
				panic(err)
			}
			status, _ := throttledStatus(request)
			answered.Add(1)
			if status == 200 {
				good.Add(1)
			}
		})
	}
	s.await("writes that wait in a balancer", 20*time.Second, func() bool {
		_, page := get(t, entry+"/web-app;csv")
		for _, line := range strings.Split(page, "\n") {
			if columns := strings.Split(line, ","); len(columns) > 2 && columns[0] == "web" && columns[1] == "BACKEND" {
				return columns[2] != "0"
			}
		}
		return false
	})

	for _, method := range []string{"GET", "OPTIONS"} {
		request, err := http.NewRequest(method, entry+"/healthz/live", nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, err := throttledStatus(request); err != nil || status >= 500 {
			t.Errorf("%s: %d, %v", method, status, err)
		}
	}
	if n := answered.Load(); n > 0 {
		t.Errorf("%d writes were answered without a master", n)
	}

	for _, node := range away {
		s.must("resume", node)
	}
	wait.Wait()
	if n := good.Load(); n != writers {
		t.Errorf("%d of %d writes were carried out", n, writers)
	}
}

// throttledStatus sends a request over a connection of its own, and waits for the answer.
func throttledStatus(request *http.Request) (status int, err error) {
	c := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(request)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}
