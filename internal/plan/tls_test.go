package plan

import (
	"strings"
	"testing"

	"holdfast/internal/stack"
)

func TestTLSIsNotSwitchedWhileTheStackRuns(t *testing.T) {
	plain, secure, other := base(), base(), base()
	secure.Entry.TLS.SelfSigned = true
	other.Entry.TLS.Directory = "tls"
	tcp := func(enabled bool, listen string) stack.Stack {
		s := base()
		s.TCP = []stack.TCPEntry{{Listen: listen, App: "web"}}
		s.TCP[0].TLS.SelfSigned = enabled
		return s
	}
	for _, c := range []struct {
		from, to stack.Stack
		says     string
	}{
		{plain, secure, "entry.tls: the clients at 127.0.0.1:6301 speak HTTP,"},
		{secure, plain, "entry.tls: the clients at 127.0.0.1:6301 speak HTTPS,"},
		{secure, other, ""},
		{secure, secure, ""},
		{tcp(false, "127.0.0.1:9001"), tcp(true, "127.0.0.1:9001"), "tcp.tls: the clients at 127.0.0.1:9001 speak in plain,"},
		{tcp(true, "127.0.0.1:9001"), tcp(false, "127.0.0.1:9001"), "tcp.tls: the clients at 127.0.0.1:9001 speak TLS,"},
		{tcp(true, "127.0.0.1:9001"), tcp(false, "127.0.0.1:9002"), ""},
		{tcp(true, "127.0.0.1:9001"), tcp(true, "127.0.0.1:9001"), ""},
	} {
		got := strings.Join(Refusals(c.from, c.to, nil), "\n")
		if c.says == "" && got != "" || !strings.Contains(got, c.says) {
			t.Errorf("got %q, want %q", got, c.says)
		}
	}
}

// The certificate files may change freely: no node is touched.
func TestOtherCertificatesChangeNoConfiguration(t *testing.T) {
	one, two := base(), base()
	one.Entry.TLS.Certificates = []stack.KeyPair{{Certificate: "a.pem"}}
	two.Entry.TLS.Certificates = []stack.KeyPair{{Certificate: "b.pem", Key: "b.key"}, {Certificate: "c.pem"}}
	m := machine(one, "/state", Placeholders(one))
	a, b := mustMake(t, one, m), mustMake(t, two, m)
	for _, c := range Diff(a.Hosts[0], b.Hosts[0], stack.Differences(one, two)) {
		if c.Action != Untouched {
			t.Errorf("%s: %s", c.Node, c.Action)
		}
	}
	if a.EntryURL != "https://127.0.0.1:6301" {
		t.Errorf("the entry is %s", a.EntryURL)
	}
}

func TestPodsLeaveTLSToTheIngress(t *testing.T) {
	s := base()
	s.Entry.Listen, s.Entry.Auth = "0.0.0.0:6301", "none"
	if err := CheckPods(s); err != nil {
		t.Fatal(err)
	}
	s.Entry.TLS.SelfSigned = true
	if err := CheckPods(s); err == nil || !strings.Contains(err.Error(), "entry.tls") || !strings.Contains(err.Error(), "Ingress") {
		t.Errorf("%v", err)
	}
}

// A program that cannot be asked whether it understands the balancers must not get a different
// beginning of its connections while it runs.
func TestSendProxyIsNotSwitchedUnderAProgramThatCannotBeAsked(t *testing.T) {
	with := func(proxy bool, change func(*stack.App)) stack.Stack {
		s := base()
		a := stack.App{Command: []string{"./mqtt"}, Nodes: 1, Health: stack.Health{Path: "/"}, SendProxy: proxy}
		change(&a)
		s.Apps = map[string]stack.App{"mqtt": a}
		return s
	}
	for name, c := range map[string]struct {
		change  func(*stack.App)
		refused bool
	}{
		"asked by HTTP":      {change: func(*stack.App) {}},
		"without a question": {change: func(a *stack.App) { a.Health.Path = "" }, refused: true},
		"elsewhere":          {change: func(a *stack.App) { a.Command, a.Servers = nil, []string{"198.18.0.1:80"} }, refused: true},
	} {
		for _, was := range []bool{true, false} {
			got := strings.Join(Refusals(with(was, c.change), with(!was, c.change), nil), "\n")
			if strings.Contains(got, "apps.mqtt.send-proxy: ") != c.refused {
				t.Errorf("%s, from %t: %q", name, was, got)
			}
			if got := Refusals(with(was, c.change), with(was, c.change), nil); len(got) > 0 {
				t.Errorf("%s, the same: %q", name, got)
			}
		}
	}
}
