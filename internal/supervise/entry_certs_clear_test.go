package supervise

import (
	"log/slog"
	"path"
	"testing"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// withCopies returns a supervisor of two hosts, each with a state directory that has the copy of a
// certificate. Only host one has a balancer, and that names the list of the certificate.
func withCopies(t *testing.T) (s *Supervisor, has func(host string) bool) {
	t.Helper()
	const config = "nodes/balancer-1/" + haproxyConfig
	s = &Supervisor{ctx: t.Context(), log: slog.New(slog.DiscardHandler), cfg: Config{Stack: stack.Default()}}
	s.hosts = hosts{several: true, named: map[string]home{}, absent: &absence{hosts: map[string]bool{}}}
	for _, name := range []string{"one", "two"} {
		host := home{machine.NewLocal(t.TempDir()), name}
		if err := host.MakeDir(t.Context(), plan.CertificatesDir); err != nil {
			t.Fatal(err)
		}
		if err := host.Write(t.Context(), machine.File{Name: path.Join(plan.CertificatesDir, "one.pem"), Mode: 0o600, Content: []byte("key")}); err != nil {
			t.Fatal(err)
		}
		s.hosts.named[name] = host
	}
	s.plan.Hosts = []plan.Host{
		{Name: "one", Processes: []plan.Process{{Node: "balancer-1", Kind: plan.Balancer}}, Files: []plan.File{{Path: config, Content: "    bind :1 ssl crt-list " + s.hosts.at("one").Path(plan.CertificateList) + "\n"}}},
		{Name: "two"},
	}
	return s, func(host string) bool { return s.hosts.at(host).has(t.Context(), plan.CertificatesDir) }
}

// The keys of an entry's certificates are on a host for no longer than a balancer there needs them.
func TestCopiesThatNoBalancerNeedsAreRemoved(t *testing.T) {
	t.Parallel()
	s, has := withCopies(t)
	s.clearCertificates(t.Context())
	if !has("one") || has("two") {
		t.Errorf("with a balancer: %v, without one: %v", has("one"), has("two"))
	}

	// The entry is gone, and the change that removed it may still be put back.
	s.plan.Hosts[0].Files = nil
	if _, err := s.changing.begin("apply", ""); err != nil {
		t.Fatal(err)
	}
	s.clearCertificates(t.Context())
	if !has("one") {
		t.Error("they are gone before the change has ended")
	}
	s.certs.changing = true // the end of the change
	s.clearCertificates(t.Context())
	if has("one") {
		t.Error("they are still there after the change")
	}
}

// The hosts of a stack that one machine looks after share its state directory.
func TestCopiesStayWhereHostsShareADirectory(t *testing.T) {
	t.Parallel()
	s, has := withCopies(t)
	s.hosts.several = false
	s.hosts.named["two"] = home{s.hosts.at("one").Machine, "two"}
	s.clearCertificates(t.Context())
	if !has("one") {
		t.Error("they are gone, and a balancer needs them")
	}
}
