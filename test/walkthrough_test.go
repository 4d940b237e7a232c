package test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"holdfast/internal/drill/report/browsertest"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// minimal returns a stack with an entry of its own and otherwise defaults.
func minimal(t *testing.T) string {
	return fmt.Sprintf("entry:\n  listen: 127.0.0.1:%d\n", freePort(t))
}

func TestTheSourcesWalkThroughByteForByte(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, minimal(t))
	said := s.must("up", "-d")
	st := s.awaitHealthy()
	for _, want := range []string{st.Entry, st.Statistics, fmt.Sprintf(`curl "%s/set?key=imooc&value=imooc.com"`, st.Entry)} {
		if !strings.Contains(said, want) {
			t.Errorf("up -d does not say %q:\n%s", want, said)
		}
	}
	var webs []string
	for _, n := range st.Nodes {
		if n.Kind == plan.Web {
			webs = append(webs, "http://"+n.Address)
		}
	}
	if len(webs) != 2 {
		t.Fatalf("web nodes: %v", webs)
	}
	expect(t, webs[0]+"/set?key=imooc&value=imooc.com", 200, "OK. We have set imooc to be imooc.com")
	expect(t, webs[1]+"/get?key=imooc", 200, "imooc.com")
	for _, entry := range append(webs, st.Entry) {
		expect(t, entry+"/get?key=imooc", 200, "imooc.com")
		expect(t, entry+"/set?key=abc&value=123", 200, "OK. We have set abc to be 123")
		expect(t, entry+"/get?key=abc", 200, "123")
		expect(t, entry+"/set?key=abc", 400, "OOps, the key or value is NULL")
		expect(t, entry+"/set?value=abc", 400, "OOps, the key or value is NULL")
		expect(t, entry+"/get", 400, "OOps, the key is null")
		if code, _ := get(t, entry+"/get?key=nobody-set-it"); code != 404 {
			t.Errorf("a missing key at %s: %d, want 404", entry, code)
		}
		expect(t, entry+"/set?key=bytes&value=%00%ff%C3%A9", 200, "OK. We have set bytes to be \x00\xff\xc3\xa9")
		expect(t, entry+"/get?key=bytes", 200, "\x00\xff\xc3\xa9")
	}
}

func TestTheStatisticsPageInABrowser(t *testing.T) {
	beside(t, oneStack)
	_, st := runningInstance(t, minimal(t))
	text, err := chromedp.Run(browsertest.Open(t, st.Statistics), chromedp.Text("body"))
	if err != nil {
		t.Fatalf("read %s in Chromium: %v", st.Statistics, err)
	}
	for _, want := range []string{"Statistics Report", "web-1", "web-2", "BACKEND"} {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(want)) {
			t.Errorf("the page does not show %q:\n%s", want, text)
		}
	}
}

func TestStatusInWordsAndForPrograms(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, minimal(t))
	if out := s.statusCommand(); out.Ready || out.Supervisor != 0 || len(out.Nodes) != 10 {
		t.Errorf("before up: %+v", out)
	}
	s.must("up", "-d")
	st := s.awaitHealthy()
	if got := s.statusCommand(); got.Supervisor != st.Supervisor || !got.Ready {
		t.Errorf("status --json: %+v", got)
	}
	kinds := map[plan.Kind]int{}
	roles := map[string]int{}
	for _, n := range st.Nodes {
		kinds[n.Kind]++
		roles[n.Role]++
		if n.PID == 0 || n.Restarts != 0 || n.Host == "" || n.Since.IsZero() {
			t.Errorf("%+v", n)
		}
	}
	if kinds[plan.Balancer] != 2 || kinds[plan.Web] != 2 || kinds[plan.Redis] != 3 || kinds[plan.Sentinel] != 3 {
		t.Errorf("kinds: %v", kinds)
	}
	if roles["master"] != 1 || roles["replica"] != 2 {
		t.Errorf("roles: %v", roles)
	}
	if out := s.must("status"); !regexp.MustCompile(`(?m)^redis-1 +master +up +127`).MatchString(out) || strings.Contains(out, "\x1b") {
		t.Errorf("status:\n%s", out)
	}
	if out := s.must("logs", "redis-1"); !strings.Contains(out, "Ready to accept connections") {
		t.Errorf("logs redis-1:\n%s", out)
	}
	if out := s.must("logs"); !strings.Contains(out, "sentinel-1 ") || !strings.Contains(out, "redis-1    ") {
		t.Errorf("logs:\n%s", out)
	}
}

func TestNodeCommands(t *testing.T) {
	beside(t, oneStack)
	s, _ := runningInstance(t, minimal(t))
	before := s.node("web-1")

	s.must("stop", "web-1")
	if n := s.node("web-1"); n.State != supervise.Down || n.PID != 0 {
		t.Errorf("after stop: %+v", n)
	}
	s.must("start", "web-1")
	if n := s.node("web-1"); n.State != supervise.Up || n.PID == before.PID {
		t.Errorf("after start: %+v", n)
	}
	before = s.node("web-1")
	s.must("restart", "web-1")
	if n := s.node("web-1"); n.State != supervise.Up || n.PID == before.PID {
		t.Errorf("after restart: %+v", n)
	}
	before = s.node("redis-2")
	s.must("kill", "redis-2")
	s.await("redis-2 started again", 10*time.Second, func() bool {
		n := s.node("redis-2")
		return n.State == supervise.Up && n.PID != before.PID && n.Restarts == 1
	})
	s.must("pause", "web-2")
	if n := s.node("web-2"); n.State != supervise.Paused || n.PID == 0 {
		t.Errorf("after pause: %+v", n)
	}
	if msg := s.fails(1, "start", "web-2"); !strings.Contains(msg, "resume web-2") {
		t.Errorf("start of a paused node says %q", msg)
	}
	s.must("resume", "web-2")
	s.awaitHealthy()

	if msg := s.fails(2, "stop", "web-9"); !strings.Contains(msg, `"web-9"`) || !strings.Contains(msg, "web-1") {
		t.Errorf("an unknown node: %q", msg)
	}
	s.must("stop", "sentinel-3")
	if msg := s.fails(1, "kill", "sentinel-3"); !strings.Contains(msg, "sentinel-3 is down") {
		t.Errorf("kill of a node that is down: %q", msg)
	}
}

func TestDataAndTopologySurviveDownAndUp(t *testing.T) {
	beside(t, oneStack)
	s, st := runningInstance(t, minimal(t))
	expect(t, st.Entry+"/set?key=k&value=v", 200, "OK. We have set k to be v")
	s.must("kill", s.master())
	s.await("another master", 20*time.Second, func() bool { m := s.master(); return m != "" && m != "redis-1" })
	master := s.master()
	before := s.awaitHealthy()
	s.must("down")
	if st := s.status(); st.Supervisor != 0 {
		t.Errorf("after down: %+v", st)
	}
	s.must("up", "-d")
	after := s.awaitHealthy()
	if s.master() != master {
		t.Errorf("the master is %s and was %s", s.master(), master)
	}
	for i := range before.Nodes {
		if before.Nodes[i].Address != after.Nodes[i].Address {
			t.Errorf("%s moved from %s to %s", before.Nodes[i].Name, before.Nodes[i].Address, after.Nodes[i].Address)
		}
	}
	expect(t, after.Entry+"/get?key=k", 200, "v")
}

func TestTwoStacksSideBySide(t *testing.T) {
	beside(t, oneStack)
	a, b := newInstance(t, minimal(t)), newInstance(t, minimal(t))
	a.must("up", "-d")
	b.must("up", "-d")
	sa, sb := a.awaitHealthy(), b.awaitHealthy()
	expect(t, sa.Entry+"/set?key=k&value=a", 200, "OK. We have set k to be a")
	expect(t, sb.Entry+"/set?key=k&value=b", 200, "OK. We have set k to be b")
	expect(t, sa.Entry+"/get?key=k", 200, "a")
	a.must("down", "--purge")
	expect(t, sb.Entry+"/get?key=k", 200, "b")
}
