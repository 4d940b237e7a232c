//go:build linux

package kubernetes

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"
)

// load is clients that write each key once, and remember what was acknowledged.
type load struct {
	url  string
	stop context.CancelFunc
	all  sync.WaitGroup

	mu           sync.Mutex
	acknowledged []string
	failed       []string      // requests with other answers, or without any
	gap          time.Duration // the longest time without an acknowledgement
	last         time.Time
}

// startLoad starts some clients, with 50 writes a second each.
func startLoad(t *testing.T, url string, clients int) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{url: url, stop: stop, last: time.Now()}
	t.Cleanup(func() { l.end() })
	name := time.Now().UnixNano()
	for i := range clients {
		l.all.Go(func() {
			client := &http.Client{Timeout: 25 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				l.write(client, fmt.Sprintf("k-%d-%d-%d", name, i, n))
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	return l
}

func (l *load) write(client *http.Client, key string) {
	answer, err := client.Post(l.url+"/set/"+key+"/"+key, "", nil)
	if err == nil {
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s %s", answer.Status, body)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed = append(l.failed, time.Now().UTC().Format("15:04:05.000 ")+err.Error())
		return
	}
	l.acknowledged = append(l.acknowledged, key)
	l.gap, l.last = max(l.gap, time.Since(l.last)), time.Now()
}

// since starts a new count of failures, and of the longest gap.
func (l *load) since() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed, l.gap, l.last = nil, 0, time.Now()
}

// serves waits until writes are acknowledged again, and logs the failures and the gap since then.
func (l *load) serves(t *testing.T, fault string) {
	t.Helper()
	l.mu.Lock()
	before := len(l.acknowledged)
	l.mu.Unlock()
	eventually(t, "writes after "+fault, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.acknowledged) < before+20 {
			return fmt.Errorf("no more than %d since; last failures %q", len(l.acknowledged)-before, l.failed[max(0, len(l.failed)-2):])
		}
		return nil
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%s: no write for at most %v, %d failed %q", fault, l.gap.Round(10*time.Millisecond), len(l.failed), l.failed[:min(2, len(l.failed))])
}

func (l *load) end() {
	l.stop()
	l.all.Wait()
}

// check ends the load and reads every acknowledged key back.
func (l *load) check(t *testing.T) {
	t.Helper()
	l.end()
	if len(l.acknowledged) < 100 {
		t.Errorf("only %d writes were acknowledged: that proves nothing", len(l.acknowledged))
	}
	client := &http.Client{Timeout: 25 * time.Second}
	var lost []string
	for _, key := range l.acknowledged {
		var got string
		eventually(t, "read "+key, func() (err error) {
			got, err = get(client, l.url+"/get/"+key)
			return err
		})
		if got != fmt.Sprintf(`{"result":%q}`, key) {
			lost = append(lost, key)
		}
	}
	if len(lost) > 0 {
		t.Errorf("lost writes: %d of %d, such as %s", len(lost), len(l.acknowledged), lost[0])
	}
	t.Logf("%d acknowledged writes are all there", len(l.acknowledged)-len(lost))
}
