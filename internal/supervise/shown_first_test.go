package supervise

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/plan"
)

func TestTheFirstBalancerOfAHostIsCheckedBeforeItHasCertificates(t *testing.T) {
	t.Parallel()
	haproxy, err := exec.LookPath("haproxy")
	if err != nil {
		haproxy = "/usr/sbin/haproxy" // the PATH of a user does not always have it
	}
	root := t.TempDir()
	s := &Supervisor{ctx: t.Context(), hosts: hostsAt(root)}
	host := s.hosts.here
	config := "defaults\n    mode http\n    timeout client 1s\n    timeout connect 1s\n    timeout server 1s\n" +
		"frontend entry\n    bind 127.0.0.1:1 ssl crt-list " + host.Path(plan.CertificateList) + " alpn h2,http/1.1\n"
	check := func(config string) error {
		return s.checkConfig(t.Context(), host, haproxy, "balancer-2", config, nil)
	}

	if err := check(config); err != nil {
		t.Errorf("without certificates: %v", err)
	}
	if err := check(config + "    no-such-word\n"); err == nil || !strings.Contains(err.Error(), "no-such-word") {
		t.Errorf("without certificates, what else is wrong is not found: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(root, checkedConfigs))
	if err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}

	// Where there are certificates, they are what is checked.
	if err := os.Mkdir(filepath.Join(root, plan.CertificatesDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, plan.CertificateList), []byte("missing.pem\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := check(config); err == nil || !strings.Contains(err.Error(), "missing.pem") {
		t.Errorf("with a list of what is not there: %v", err)
	}
}
