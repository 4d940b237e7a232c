package test

import (
	"fmt"
	"holdfast/internal/redis/redistest"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// newExample returns a stack of examples/ with its file unchanged.
func newExample(t *testing.T, file string) *instance {
	t.Helper()
	s := newInstance(t, "")
	path, err := filepath.Abs(filepath.Join("..", "examples", file))
	if err != nil {
		t.Fatal(err)
	}
	s.file = path
	return s
}

// externalServer is a server that Holdfast does not run. It answers with its port.
func externalServer(t *testing.T, port int) {
	t.Helper()
	l, err := listen(port)
	if err != nil {
		t.Fatalf("the example needs port %d: %v", port, err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, port)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
}

// countAnswers sends many requests to an address, and counts the answers.
func countAnswers(t *testing.T, url string) map[string]int {
	t.Helper()
	answers := map[string]int{}
	for range 40 {
		_, body := get(t, url)
		answers[body]++
	}
	return answers
}

func TestExampleStaticAndApp(t *testing.T) {
	releasePreferredPorts()
	t.Cleanup(holdPreferredPorts)
	for _, port := range []int{4331, 5001, 5002, 5003, 5004} {
		externalServer(t, port)
	}
	s := newExample(t, "source-static-and-app.yaml")
	s.must("up", "-d")
	entry := s.status().Entry
	for path, want := range map[string][]string{
		"/static/a": {"4331"}, "/IMAGES/b": {"4331"}, "/Javascript": {"4331"}, "/stylesheets/": {"4331"},
		"/any/where.JPG": {"4331"}, "/x.gif": {"4331"}, "/x.png": {"4331"}, "/x.css": {"4331"}, "/x.js": {"4331"},
		"/": {"5001", "5002", "5003", "5004"}, "/x.html": {"5001", "5002", "5003", "5004"},
	} {
		got := countAnswers(t, entry+path)
		if len(got) != len(want) {
			t.Errorf("%s is answered by %v, want %v", path, got, want)
		}
		for _, w := range want {
			if got[w] == 0 {
				t.Errorf("%s is answered by %v, want %v", path, got, want)
			}
		}
	}
}

func TestExampleTwoServers(t *testing.T) {
	releasePreferredPorts()
	t.Cleanup(holdPreferredPorts)
	externalServer(t, 5001)
	externalServer(t, 5002)
	s := newExample(t, "source-two-servers.yaml")
	s.must("up", "-d")
	st := s.status()
	if got := countAnswers(t, st.Entry+"/"); got["5001"] == 0 || got["5002"] == 0 || len(got) != 2 {
		t.Errorf("answered by %v", got)
	}
	if code, page := get(t, st.Entry+"/web-app"); code != 200 || !strings.Contains(page, "webapp") {
		t.Errorf("statistics: %d", code)
	}
}

func TestExampleTokens(t *testing.T) {
	s := newExample(t, "tokens.yaml")
	s.must("up", "-d")
	st := s.awaitHealthy()
	const shop, page, admin = "example-token-of-the-shop", "example-token-of-the-page", "example-token-of-the-admin"
	for _, c := range []struct {
		what, path, token string
		status            int
		says              string
	}{
		{"nobody", "/get/shop:public:1", "", 401, "WRONGPASS"},
		{"the shop writes", "/set/shop:public:1/socks", shop, 200, "OK"},
		{"the shop has sessions", "/set/session:1/ada?EX=60", shop, 200, "OK"},
		{"the shop publishes", "/publish/shop:public:news/hi", shop, 200, `{"result":0}`},
		{"the shop has no other keys", "/get/bank:1", shop, 403, "NOPERM"},
		{"the shop may not list", "/keys/shop:*", shop, 403, "NOPERM"},
		{"the shop may not run scripts", "/eval/return%201/0", shop, 403, "NOPERM"},
		{"the page reads", "/get/shop:public:1", page, 200, "socks"},
		{"the page reads several", "/mget/shop:public:1/shop:public:2", page, 200, `["socks",null]`},
		{"the page reads nothing else", "/get/session:1", page, 403, "NOPERM"},
		{"the page does not write", "/set/shop:public:1/shoes", page, 403, "NOPERM"},
		{"the page has few commands", "/strlen/shop:public:1", page, 403, "NOPERM"},
		{"the admin lists", "/keys/shop:*", admin, 200, "shop:public:1"},
		{"the admin runs scripts", "/eval/return%201/0", admin, 200, `{"result":1}`},
		{"what is not allowed, nobody may", "/flushall", admin, 400, "not allowed"},
		{"the admin empties", "/flushdb", admin, 200, "OK"},
		{"and all is gone", "/get/shop:public:1", page, 200, "null"},
	} {
		if status, body := askAs(t, "GET", st.Entry+c.path, c.token, ""); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s, want %d %s", c.what, status, body, c.status, c.says)
		}
	}
}

// visit matches where the example's own program tells how often it was asked.
var visit = regexp.MustCompile(`You are visit (\d+)`)

func TestExampleOwnProgram(t *testing.T) {
	s := newExample(t, "own-program.yaml")
	s.must("up", "-d")
	st := s.awaitHealthy()
	if code, page := get(t, st.Entry+"/static/style.css"); code != 200 || !strings.Contains(page, "{") {
		t.Errorf("static file: %d %s", code, page)
	}
	count := func() int {
		t.Helper()
		code, page := get(t, st.Entry+"/")
		if code != 200 {
			t.Fatalf("%d %s", code, page)
		}
		m := visit.FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("no count in %q", page)
		}
		n, _ := strconv.Atoi(m[1])
		return n
	}
	before := count()
	after := count()
	if after <= before {
		t.Errorf("visits: %d, then %d", before, after)
	}
	before = after
	if cookie := header(t, st.Entry+"/", "Set-Cookie"); !strings.HasPrefix(cookie, "node=visits-") {
		t.Errorf("Set-Cookie: %q", cookie)
	}
	s.programReachesRedis("visits-1", "visits")
	// Its Redis address leads to the master, whichever node that is.
	old := s.master()
	s.must("kill", old)
	s.await("another master", 20*time.Second, func() bool { m := s.master(); return m != "" && m != old })
	s.awaitHealthy()
	s.await("counting again", 20*time.Second, func() bool {
		code, _ := get(t, st.Entry+"/")
		return code == 200
	})
	if after := count(); after <= before {
		t.Errorf("the count fell from %d to %d", before, after)
	}
	s.programReachesRedis("visits-1", "visits")
}

// programReachesRedis does what a program's client library does with the environment of one of its
// nodes: it asks each Sentinel for the master, and logs in at the master and at the balancers'
// port. It stays in its database.
func (s *instance) programReachesRedis(node, app string) {
	s.t.Helper()
	env := s.environment(node)
	at, err := url.Parse(env["REDIS_URL"])
	if err != nil || at.User.Username() != "app-"+app || at.Path != "/0" {
		s.t.Fatalf("REDIS_URL is of the user %q, at %s (%v)", at.User.Username(), at.Path, err)
	}
	ask := func(address string, command ...string) string {
		s.t.Helper()
		host, port, _ := net.SplitHostPort(address)
		cmd := exec.Command(redistest.Program("cli"), append([]string{"--user", at.User.Username(), "-h", host, "-p", port}, command...)...)
		password, _ := at.User.Password()
		cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+password, "VALKEYCLI_AUTH="+password)
		out, _ := cmd.CombinedOutput()
		return strings.TrimSpace(string(out))
	}

	master := s.node(s.master()).Address
	for _, sentinel := range strings.Split(env["REDIS_SENTINELS"], ",") {
		// A Sentinel that did not lead the failover learns of it a moment later.
		s.await("the master by "+sentinel, 20*time.Second, func() bool {
			return strings.Replace(ask(sentinel, "sentinel", "get-master-addr-by-name", env["REDIS_MASTER_NAME"]), "\n", ":", 1) == master
		})
		if got := ask(sentinel, "sentinel", "slaves", env["REDIS_MASTER_NAME"]); !strings.Contains(got, "127.0.0.1") {
			s.t.Errorf("the replicas are, by %s: %q", sentinel, got)
		}
		if got := ask(sentinel, "sentinel", "failover", env["REDIS_MASTER_NAME"]); !strings.Contains(got, "NOPERM") {
			s.t.Errorf("%s to a failover that a program wants: %q", sentinel, got)
		}
	}
	for _, address := range []string{master, at.Host} {
		if got := ask(address, "-n", "0", "exists", "visits"); got != "1" {
			s.t.Errorf("%s: %q", address, got)
		}
		if got := ask(address, "select", "15"); !strings.Contains(got, "NOPERM") {
			s.t.Errorf("%s to SELECT 15: %q", address, got)
		}
	}
}
