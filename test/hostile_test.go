package test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// postJSON sends a body, and returns the status and the answer.
func postJSON(t *testing.T, url, body string) (int, string) {
	t.Helper()
	c := http.Client{Timeout: 30 * time.Second}
	return answerOf(t)(c.Post(url, "application/json", strings.NewReader(body)))
}

// A request may be slow for its sender. The master that works on it stays the master, and others
// are served.
func TestASlowRequestTakesNobodyElseDown(t *testing.T) {
	s, st := runningInstance(t, minimal(t))
	master := s.master()
	if code, body := postJSON(t, st.Entry, `["SETRANGE","bits","99999999","x"]`); code != 200 {
		t.Fatal(code, body)
	}
	slow := "[" + strings.TrimSuffix(strings.Repeat(`["BITCOUNT","bits"],`, 300), ",") + "]"
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { postJSON(t, st.Entry+"/pipeline", slow) })
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	others := 0
	for busy := true; busy; {
		if code, body := get(t, fmt.Sprintf("%s/set/other/%d", st.Entry, others)); code != 200 {
			t.Errorf("another's write: %d %s", code, body)
		}
		others++
		select {
		case <-ended:
			busy = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Logf("%d writes of others meanwhile", others)
	// The same goes for one command on very much data, or a transaction of many commands: they are
	// refused.
	for i := range 30 {
		members := fmt.Sprintf(`["SADD","many"%s]`, strings.Repeat(fmt.Sprintf(`,"%d:%%d"`, i), 5000))
		numbers := make([]any, 5000)
		for k := range numbers {
			numbers[k] = k
		}
		if code, body := postJSON(t, st.Entry, fmt.Sprintf(members, numbers...)); code != 200 {
			t.Fatal(code, body)
		}
	}
	union := `["SUNIONSTORE","x","many","many"]`
	for _, c := range []struct {
		path, body string
	}{
		{"", union}, {"", `["SORT","many"]`}, {"", `["SRANDMEMBER","many","-100000000"]`}, {"", `["SETBIT","bit","4294967295","1"]`},
		{"/multi-exec", "[" + strings.Repeat(`["BITCOUNT","bits"],`, 100) + `["PING"]]`},
	} {
		if code, body := postJSON(t, st.Entry+c.path, c.body); code != 400 || !strings.Contains(body, "keep Redis from everybody else") {
			t.Errorf("%.60s: %d %.200s", c.body, code, body)
		}
	}
	if code, body := postJSON(t, st.Entry+"/pipeline", "["+union+`,["SCARD","many"],`+union+"]"); code != 200 || !strings.Contains(body, `{"result":150000}`) {
		t.Errorf("in a pipeline: %d %s", code, body)
	}
	// The same goes for a script that would never end, as long as it has written nothing.
	if code, body := postJSON(t, st.Entry, `["EVAL","while true do end","0"]`); code != 400 || !strings.Contains(body, "killed") {
		t.Errorf("a script without an end: %d %s", code, body)
	}
	// A probe may have met the script. Its node is then not up until the next probe.
	s.await("a master that is up", 10*time.Second, func() bool { return s.master() != "" })
	if now := s.master(); now != master {
		t.Errorf("the master was %s and is %s", master, now)
	}
}

// A script that has written can only be ended together with its Redis. It takes down one node and
// not the next; that node is killed and comes back.
func TestAScriptThatWritesAndNeverEndsTakesOneNodeDown(t *testing.T) {
	s, st := runningInstance(t, minimal(t))
	was := s.node(s.master())
	code, body := postJSON(t, st.Entry, `["EVAL","redis.call([[set]],[[x]],1) while true do end","0"]`)
	if code != 504 {
		t.Errorf("its sender is told %d %s", code, body)
	}
	s.await("another master, and a write", 20*time.Second, func() bool {
		code, _ := get(t, st.Entry+"/set/k/v")
		return code == 200
	})
	s.await(was.Name+" as a replica, in a new process", 60*time.Second, func() bool {
		n := s.node(was.Name)
		return n.Role == "replica" && n.PID != was.PID
	})
	expect(t, s.awaitHealthy().Entry+"/get/k", 200, `{"result":"v"}`)
	if restarts := s.node(was.Name).Restarts; restarts != 1 {
		t.Errorf("%s was started again %d times", was.Name, restarts)
	}
}
