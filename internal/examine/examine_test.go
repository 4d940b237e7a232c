package examine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/doctor"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// pemOf returns a certificate that ends at that time.
func pemOf(t *testing.T, ends time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shop.example"}, NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// Certificates that the stack file passes to a program are found in its arguments and its
// environment. Of a chain, the one that ends first counts.
func TestCertificatesOfProgramsAreFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	soon := time.Now().Add(24 * time.Hour).Truncate(time.Second)
	later := soon.AddDate(1, 0, 0)
	for name, content := range map[string][]byte{
		"chain.pem": append(pemOf(t, later), pemOf(t, soon)...),
		"good.pem":  pemOf(t, later),
		"bad.pem":   []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"page.html": []byte("<h1>no certificate</h1>"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := &examination{seen: supervise.Inspection{Plan: plan.Plan{Hosts: []plan.Host{{Processes: []plan.Process{
		{Node: "shop-1", Kind: plan.Web, App: "shop", Dir: dir, Args: []string{"--cert=chain.pem", "page.html", "."}, Env: []string{"CA=" + filepath.Join(dir, "good.pem"), "OTHER=bad.pem"}},
		{Node: "shop-2", Kind: plan.Web, App: "shop", Dir: dir, Args: []string{"--cert=chain.pem"}},
	}}}}}}
	e.certificates()
	ends := map[string]doctor.Certificate{}
	for _, c := range e.facts.Certificates {
		ends[filepath.Base(c.Path)] = c
	}
	if c := ends["chain.pem"]; !c.Ends.Equal(soon) || c.For != "the application shop" || c.Subject != "CN=shop.example" {
		t.Errorf("the chain: %+v", c)
	}
	if c := ends["good.pem"]; !c.Ends.Equal(later) || c.Broken != "" {
		t.Errorf("a good one: %+v", c)
	}
	if c := ends["bad.pem"]; c.Broken == "" {
		t.Errorf("a damaged one: %+v", c)
	}
	if len(e.facts.Certificates) != 3 {
		t.Errorf("found %+v", e.facts.Certificates)
	}
}

func TestADifferenceShowsNoPassword(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ has, wants, shownHas, shownWants string }{
		{"a\nport 1\n", "a\nport 2\n", "port 1", "port 2"},
		{"a\n", "a\nb\n", "", "b"},
		{"masterauth secret\n", "masterauth other\n", "masterauth …", "masterauth …"},
		{"user web on #1234 +@all\n", "user web on #5678 +@all\n", "user …", "user …"},
		{"# a comment\n", "# another\n", "# a comment", "# another"},
	} {
		d := difference("nodes/x/y", "x", c.has, c.wants)
		if d.Has != c.shownHas || d.Wants != c.shownWants || d.Line == 0 {
			t.Errorf("%q and %q: %+v", c.has, c.wants, d)
		}
	}
}

// Without any stack there is still the machine to examine.
func TestThereIsSomethingToSeeWithoutAStack(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "hf") // short, because of the path of a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	state := filepath.Join(dir, "not", "there")
	f := Stack(t.Context(), Config{Stack: stack.Default(), BaseDir: t.TempDir(), StateDir: state, SearchPath: os.Getenv("PATH")})
	if f.Kept || f.Supervisor.PID != 0 || len(f.Nodes) != 10 || f.Machine.DiskSize == 0 {
		t.Errorf("facts: %+v", f)
	}
	for _, n := range f.Nodes {
		if n.Process != nil || n.State != "down" {
			t.Errorf("%s: %+v", n.Name, n)
		}
	}
}

// A node of another host is judged by what the supervisor reports, and not by a process of this
// machine with the same pid.
func TestANodeOfAnotherHostIsAsItsSupervisorSays(t *testing.T) {
	t.Parallel()
	p := plan.Process{Node: "redis-2", Kind: plan.Redis, Address: "198.18.7.2:1"}
	for state, want := range map[supervise.State]doctor.Node{
		supervise.Up:       {Want: "up", Process: &doctor.Process{PID: 7}},
		supervise.Paused:   {Want: "up", Process: &doctor.Process{PID: 7, Stopped: true}},
		supervise.Down:     {Want: "down"},
		supervise.Starting: {Want: "up"},
	} {
		st := supervise.NodeStatus{Name: "redis-2", State: state}
		if want.Process != nil {
			st.PID = 7
		}
		got := reported(p, "two", st, false)
		same := got.Process == nil && want.Process == nil || got.Process != nil && want.Process != nil && *got.Process == *want.Process
		if !same || got.Want != want.Want || got.Host != "two" || got.Address != p.Address {
			t.Errorf("%s: %+v", state, got)
		}
	}
}

func TestWhatHAProxySaysOfLua(t *testing.T) {
	out, err := exec.Command("haproxy", "-vv").Output()
	if err != nil {
		if out, err = exec.Command("/usr/sbin/haproxy", "-vv").Output(); err != nil {
			t.Fatal(err)
		}
	}
	if !builtWithLua(string(out)) {
		t.Errorf("this HAProxy has no Lua:\n%s", out)
	}
	if without := strings.Replace(string(out), "+LUA", "-LUA", 1); builtWithLua(without) {
		t.Error("one without Lua is not seen")
	}
}
