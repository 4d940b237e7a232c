package test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// newExample is a stack of examples/, as it stands.
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

// elsewhere is a server that Holdfast does not run: it answers with its port.
func elsewhere(t *testing.T, port int) {
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

// seen asks an address often and counts the answers.
func seen(t *testing.T, url string) map[string]int {
	t.Helper()
	answers := map[string]int{}
	for range 40 {
		_, body := get(t, url)
		answers[body]++
	}
	return answers
}

func TestExampleStaticAndApp(t *testing.T) {
	for _, port := range []int{4331, 5001, 5002, 5003, 5004} {
		elsewhere(t, port)
	}
	s := newExample(t, "source-static-and-app.yaml")
	s.must("up", "-d")
	entry := s.status().Entry
	for path, want := range map[string][]string{
		"/static/a": {"4331"}, "/IMAGES/b": {"4331"}, "/Javascript": {"4331"}, "/stylesheets/": {"4331"},
		"/any/where.JPG": {"4331"}, "/x.gif": {"4331"}, "/x.png": {"4331"}, "/x.css": {"4331"}, "/x.js": {"4331"},
		"/": {"5001", "5002", "5003", "5004"}, "/x.html": {"5001", "5002", "5003", "5004"},
	} {
		got := seen(t, entry+path)
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
	elsewhere(t, 5001)
	elsewhere(t, 5002)
	s := newExample(t, "source-two-servers.yaml")
	s.must("up", "-d")
	st := s.status()
	if got := seen(t, st.Entry+"/"); got["5001"] == 0 || got["5002"] == 0 || len(got) != 2 {
		t.Errorf("answered by %v", got)
	}
	if code, page := get(t, st.Entry+"/web-app"); code != 200 || !strings.Contains(page, "webapp") {
		t.Errorf("statistics: %d", code)
	}
}

// visit is where the example's own program says how often it was asked.
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
	// Its Redis address leads to the master, whoever that is.
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
}
