package test

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/certificate"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// pageServer has one page, and does not start if it is told so.
const pageServer = `
import http.server, os, sys
if os.environ.get("END"): sys.exit("there is no harbour")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
`

// stoppedStack is a stack with a change that stops after the reload of its balancers.
type stoppedStack struct {
	*tcpStack // the change adds the entries own and plain
}

func newStoppedStack(t *testing.T, entry string) (*stoppedStack, certificate.Pair) {
	s := &stoppedStack{&tcpStack{
		secureStack: &secureStack{instance: newInstance(t, ""), entry: freePort(t), redirect: freePort(t), roots: x509.NewCertPool()},
		own:         freePort(t), plain: freePort(t),
	}}
	s.put("page.py", []byte(pageServer))
	own := s.certify("own.pem", "", "own.example.com")
	s.certify("www.pem", "", "www.example.com")
	s.write(s.text(entry, "", ""))
	s.must("up", "-d")
	s.awaitHealthy()
	return s, own
}

// text returns the stack file with additions to the entry, the application and the stack.
func (s *stoppedStack) text(entry, app, more string) string {
	return fmt.Sprintf(`name: %s
entry:
  listen: "127.0.0.1:%d"
%sapps:
  page: {command: [python3, page.py], nodes: 2, dir: ., health: {path: /up}%s}
routes: [{app: page}]
redis: {enabled: false}
%s`, s.name, s.entry, entry, app, more)
}

// entries returns the tcp entries that the change adds.
func (s *stoppedStack) entries(host string) string {
	return fmt.Sprintf("tcp:\n  - {listen: \"%s:%d\", app: page, auth: none, tls: {certificates: [{certificate: own.pem}]}}\n  - {listen: \"%s:%d\", app: page, auth: none}\n", host, s.own, host, s.plain)
}

const (
	onlyWWW = "  tls:\n    certificates: [{certificate: www.pem}]\n"
	endsAt  = ", env: {END: start}"
)

// applyAndStop applies a stack file whose application does not come up.
func (s *stoppedStack) applyAndStop(text string) {
	s.t.Helper()
	s.write(text)
	if said := s.fails(1, "apply", "--yes"); !strings.Contains(said, "there is no harbour") {
		s.t.Fatalf("apply says %s", said)
	}
}

// awaitReplaced waits until a balancer is back after its process was killed.
func (s *stoppedStack) awaitReplaced(balancer string, before int) {
	s.t.Helper()
	s.await(balancer+" again", 15*time.Second, func() bool {
		n := s.node(balancer)
		return n.State == supervise.Up && n.PID != before
	})
}

func TestAStoppedChangeLeavesTheBalancersWhatTheyHave(t *testing.T) {
	beside(t, oneStack)
	s, own := newStoppedStack(t, onlyWWW)
	with := func(host string) string {
		return onlyWWW + fmt.Sprintf("    redirect: \"%s:%d\"\n", host, s.redirect)
	}

	s.applyAndStop(s.text(with("127.0.0.1"), endsAt, s.entries("127.0.0.1")))
	s.awaitShownAt(s.own, own)

	// The supervisor has renewed the certificates in the meantime.
	s.awaitShown("www.example.com", s.certify("www.pem", "", "www.example.com"))
	before := s.node("balancer-1").PID
	kill(t, before)
	s.awaitReplaced("balancer-1", before)
	s.awaitShownAt(s.own, own)

	// An address at which the balancers listen already does not count as taken, and can be widened.
	for _, host := range []string{"127.0.0.1", "0.0.0.0"} {
		s.write(s.text(with(host), "", s.entries(host)))
		s.must("apply", "--yes")
		s.awaitShownAt(s.own, own)
		if code, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/up", s.plain)); code != http.StatusOK {
			t.Errorf("with %s the entry that passes bytes on answers %d", host, code)
		}
	}

	// An address of another process is taken.
	stranger, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	s.write(s.text(onlyWWW+fmt.Sprintf("    redirect: \"%s\"\n", stranger.Addr()), "", s.entries("0.0.0.0")))
	if said := s.fails(1, "apply", "--yes"); !strings.Contains(said, fmt.Sprintf("entry.tls.redirect cannot listen on %s: the address is taken", stranger.Addr())) {
		t.Errorf("apply says %s", said)
	}
}

func TestASupervisorAfterAStoppedChangeKeepsItsCertificates(t *testing.T) {
	beside(t, oneStack)
	s, own := newStoppedStack(t, "") // the earlier stack has no TLS
	s.applyAndStop(s.text("", endsAt, s.entries("127.0.0.1")))
	s.awaitShownAt(s.own, own)

	written := func() time.Time {
		t.Helper()
		list, err := os.Stat(filepath.Join(s.state, plan.CertificateListOf(fmt.Sprintf("127.0.0.1:%d", s.own))))
		if err != nil {
			t.Fatal(err)
		}
		return list.ModTime()
	}
	before := written()

	s.killSupervisor()
	kill(t, s.node("balancer-1").PID)
	s.write(s.text("", "", s.entries("127.0.0.1")))
	s.must("up", "-d")
	s.awaitHealthy()
	s.awaitShownAt(s.own, own)
	if after := written(); !after.Equal(before) {
		t.Errorf("the list of %v was written again at %v: it was gone for a while", before, after)
	}
}

func TestASupervisorThatDiesInTheFirstReloadLeavesNoAddressTaken(t *testing.T) {
	beside(t, oneStack)
	s, own := newStoppedStack(t, onlyWWW)
	s.write(s.text(onlyWWW, "", s.entries("127.0.0.1")))
	first := s.command("apply", "--yes")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	s.await("the first balancer's new worker", 20*time.Second, func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.own))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	s.killSupervisor()
	_ = first.Wait()
	if first.ProcessState.ExitCode() == 0 {
		t.Fatal("the change had ended before the supervisor was killed")
	}

	s.must("up", "-d")
	s.awaitHealthy()
	s.awaitShownAt(s.own, own)
}
