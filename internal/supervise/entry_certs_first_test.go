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
		haproxy = "/usr/sbin/haproxy" // it is not always on the PATH of a user
	}
	for _, dir := range []string{"state", "it's state"} {
		t.Run(dir, func(t *testing.T) { checksFirst(t, haproxy, filepath.Join(t.TempDir(), dir)) })
	}
}

func checksFirst(t *testing.T, haproxy, root string) {
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &Supervisor{ctx: t.Context(), hosts: hostsAt(root)}
	host := s.hosts.here
	quote := func(name string) string {
		word, err := plan.HAProxyWord(host.Path(name))
		if err != nil {
			t.Fatal(err)
		}
		return word
	}
	// The script is not there yet either.
	script := plan.File{Path: "nodes/balancer-2/x.lua", Content: "core.log(core.info, 'x')\n"}
	config := "global\n    lua-load " + quote(script.Path) + "\n" +
		"defaults\n    mode http\n    timeout client 1s\n    timeout connect 1s\n    timeout server 1s\n" +
		"frontend entry\n    bind 127.0.0.1:1 ssl crt-list " + quote(plan.CertificateList) + " alpn h2,http/1.1\n" +
		"frontend tcp\n    mode tcp\n    bind 127.0.0.1:2 ssl crt-list " + quote(plan.CertificateListOf("127.0.0.1:2")) + "\n"
	check := func(config string) error {
		return s.checkConfig(t.Context(), host, haproxy, "balancer-2", config, []plan.File{script})
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

	// If there are certificates, these are checked.
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
