package plan

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"holdfast/internal/goldentest"
	"holdfast/internal/stack"
)

// virtual returns the plan of a stack on three hosts with a virtual address. Each host has its
// state directory below dir.
func virtual(t *testing.T, section, dir string, user string) Plan {
	t.Helper()
	s := shaped(t, "entry: {listen: '0.0.0.0:80', auth: none, virtual: "+section+"}\nbalancers: 3\n"+threeHosts)
	k := machine(s, dir, Placeholders(s))
	k.Hosts, k.Placement = HostsOf(s), mustSpread(t, s, nil)
	hosts := map[string]HostFacts{}
	for _, h := range k.Hosts {
		hosts[h.Name] = HostFacts{
			StateDir: filepath.Join(dir, h.Name), BaseDir: "/srv", Cores: 4, User: user, Self: "/bin/true",
			Interface: "eth1",
		}
	}
	p, err := Make(s, k.Facts, hosts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	oneAddress   = "{address: 198.18.7.100/24}"
	twoAddresses = "{address: [198.18.7.100/24, 198.18.7.101/24], interface: eth0, advertise: 1s, router: 7}"
)

func TestTheVirtualAddressIsTheGoldenOne(t *testing.T) {
	for name, section := range map[string]string{"virtual": oneAddress, "virtual-two": twoAddresses} {
		p := virtual(t, section, "/var/lib/holdfast", "root")
		var text strings.Builder
		for _, h := range p.Hosts {
			for _, f := range h.Files {
				if strings.HasPrefix(f.Path, "nodes/keepalived-") {
					text.WriteString("-- " + h.Name + " " + f.Path + " --\n" + f.Content)
				}
			}
		}
		goldentest.Check(t, filepath.Join("testdata", "golden", name+".conf"), text.String())
	}
}

// keepalived itself checks each configuration, also with names that are harder to write.
func TestKeepalivedAcceptsEveryConfigurationWithoutAWarning(t *testing.T) {
	keepalived, link := program(t, "keepalived"), anyLink(t)
	for _, section := range []string{oneAddress, twoAddresses, "{address: 198.18.7.100/24, interface: eth0, advertise: 120ms}"} {
		for _, name := range []string{"state", "with a 'space"} {
			dir := filepath.Join(shortDir(t), name)
			p := virtual(t, section, dir, "root")
			for _, h := range p.Hosts {
				state := filepath.Join(dir, h.Name)
				if err := os.MkdirAll(state, 0o700); err != nil {
					t.Fatal(err)
				}
				write(t, state, Plan{Hosts: []Host{h}})
				i := slices.IndexFunc(h.Processes, func(p Process) bool { return p.Kind == Keepalived })
				conf := filepath.Join(state, "nodes", h.Processes[i].Node, keepalivedConf)
				// keepalived checks that the scripts exist.
				text, err := os.ReadFile(conf)
				if err != nil {
					t.Fatal(err)
				}
				// Version 2.3 refuses to run a script whose path contains a link.
				program, err := filepath.EvalSymlinks("/bin/true")
				if err != nil {
					t.Fatal(err)
				}
				text = []byte(strings.NewReplacer("eth0", link, "eth1", link, "/bin/true", program).Replace(string(text)))
				if err := os.WriteFile(conf, text, 0o600); err != nil {
					t.Fatal(err)
				}
				out, err := exec.Command(keepalived, "--config-test", "--use-file", conf).CombinedOutput()
				if err != nil || strings.TrimSpace(string(out)) != "" {
					t.Errorf("%s, %s in %s: %v\n%s\n%s", section, h.Name, name, err, out, text)
				}
			}
		}
	}
}

// anyLink returns a network interface of this machine that is not loopback.
func anyLink(t *testing.T) string {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Flags&net.FlagLoopback == 0 && !strings.ContainsAny(l.Name, " <>") {
			return l.Name
		}
	}
	t.Skip("this machine has no network interface but its loopback, which keepalived does not take")
	return ""
}

func TestEveryHostOfABalancerHasTheVirtualAddressAtTimes(t *testing.T) {
	s := shaped(t, "entry: {listen: '0.0.0.0:80', auth: none, virtual: "+oneAddress+"}\nbalancers: 3\n"+twoHosts)
	placed := mustSpread(t, s, nil)
	if got := byKeepalived(placed); !slices.Equal(got, []string{"keepalived-1 one", "keepalived-2 two"}) {
		t.Errorf("got %q", got)
	}
	// The first host is gone and another one is new: the host that stays keeps its node's name.
	s = shaped(t, "entry: {listen: '0.0.0.0:80', auth: none, virtual: "+oneAddress+"}\nbalancers: 3\n"+
		"hosts:\n  zero: {address: 198.18.7.9}\n  two: {address: 198.18.7.2}\n")
	if got := byKeepalived(mustSpread(t, s, placed)); !slices.Equal(got, []string{"keepalived-1 zero", "keepalived-2 two"}) {
		t.Errorf("with another host: got %q", got)
	}
	// A placement from before the address was wanted has no keepalived nodes.
	k := machine(s, "/state", Placeholders(s))
	k.Hosts, k.Placement = HostsOf(s), mustSpread(t, s, nil)
	for name := range k.Placement {
		if _, is := keepalivedNumber(name); is {
			delete(k.Placement, name)
		}
	}
	if p := mustMake(t, s, k); !slices.ContainsFunc(p.Hosts[1].Processes, func(p Process) bool { return p.Node == "keepalived-2" }) {
		t.Errorf("the second host has %v", p.Hosts[1].Processes)
	}
}

func byKeepalived(placed Placement) (all []string) {
	for name, host := range placed {
		if _, is := keepalivedNumber(name); is {
			all = append(all, name+" "+host)
		}
	}
	slices.Sort(all)
	return all
}

func TestTheEntryIsTheVirtualAddress(t *testing.T) {
	p := virtual(t, oneAddress, "/state", "")
	if p.EntryURL != "http://198.18.7.100:80" {
		t.Errorf("the entry is %s", p.EntryURL)
	}
	config := content(t, p.Hosts[2], "nodes/balancer-1/haproxy.cfg")
	if !strings.Contains(config, "bind 0.0.0.0:80") {
		t.Errorf("the balancer does not listen at every address:\n%s", config)
	}
}

func TestAnswersLeaveByAnAddressThatHasMoved(t *testing.T) {
	for _, c := range []struct {
		virtual  bool
		is       HostFacts
		wantBind string
	}{
		{true, HostFacts{HAProxyUser: "haproxy", SetsAddresses: true}, "bind 0.0.0.0:80,127.0.0.1:80 transparent\n"},
		{true, HostFacts{HAProxyUser: "haproxy"}, "bind 0.0.0.0:80,127.0.0.1:80\n"}, // root, but without the right
		{true, HostFacts{SetsAddresses: true}, "bind 0.0.0.0:80,127.0.0.1:80\n"},    // only keepalived's file has the right
		{false, HostFacts{HAProxyUser: "haproxy", SetsAddresses: true}, "bind 0.0.0.0:80,127.0.0.1:80\n"},
	} {
		entry := "entry: {listen: '0.0.0.0:80', auth: none}\n"
		if c.virtual {
			entry = "entry: {listen: '0.0.0.0:80', auth: none, virtual: " + oneAddress + "}\n"
		}
		s := shaped(t, entry+threeHosts)
		k := machine(s, "/var/lib/holdfast", Placeholders(s))
		k.Hosts, k.Placement = HostsOf(s), mustSpread(t, s, nil)
		hosts := map[string]HostFacts{}
		for _, h := range k.Hosts {
			is := c.is
			is.StateDir, is.BaseDir, is.Cores, is.Interface = "/var/lib/holdfast", "/srv", 4, "eth1"
			hosts[h.Name] = is
		}
		p, err := Make(s, k.Facts, hosts)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, h := range p.Hosts {
			for _, f := range h.Files {
				if strings.HasSuffix(f.Path, "haproxy.cfg") {
					found++
					if !strings.Contains(f.Content, "    "+c.wantBind) {
						t.Errorf("%+v, a virtual address: %v: %s has not %q", c.is, c.virtual, f.Path, c.wantBind)
					}
				}
			}
		}
		if found == 0 {
			t.Error("the plan has no balancer")
		}
	}
}

func TestThePlanSaysWhatKeepalivedIsFor(t *testing.T) {
	text := virtual(t, twoAddresses, "/state", "").Text()
	for _, want := range []string{"keepalived-1 for 198.18.7.100 and 198.18.7.101 on eth0", "ready: its process for VRRP runs; stop: SIGTERM, killed after 5s"} {
		if !strings.Contains(text, want) {
			t.Errorf("the plan does not say %q", want)
		}
	}
}

func TestWithoutHostsNothingMovesAnAddress(t *testing.T) {
	s := stack.Default()
	s.Entry.Virtual = stack.Virtual{Addresses: []string{"198.18.7.100/24"}, Advertise: 1e9, Router: 51}
	for _, process := range mustMake(t, s, machine(s, "/state", Placeholders(s))).Hosts[0].Processes {
		if process.Kind == Keepalived {
			t.Errorf("there is %s", process.Node)
		}
	}
}

func TestAnUnknownInterfaceIsNoInterface(t *testing.T) {
	s := shaped(t, "entry: {listen: '0.0.0.0:80', auth: none, virtual: "+oneAddress+"}\n"+twoHosts)
	k := machine(s, "/state", Placeholders(s))
	k.Hosts, k.Placement = HostsOf(s), mustSpread(t, s, nil)
	p := mustMake(t, s, k)
	last := p.Hosts[0].Processes[len(p.Hosts[0].Processes)-1]
	if last.Kind != Keepalived || last.Interface != "" || last.Address != "" || !slices.Equal(last.Virtual, []string{"198.18.7.100"}) {
		t.Errorf("got %+v", last)
	}
	if config := content(t, p.Hosts[0], "nodes/keepalived-1/keepalived.conf"); !strings.Contains(config, "interface <the interface of one>") {
		t.Errorf("got %s", config)
	}
}

// keepalived runs the script: with a process called haproxy, with one of another name, and with
// none.
func TestTheScriptKnowsABalancerThatRuns(t *testing.T) {
	dir := shortDir(t)
	p := virtual(t, oneAddress, dir, "root")
	if err := os.Mkdir(filepath.Join(dir, "three"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "three"), Plan{Hosts: p.Hosts[2:]})
	node := filepath.Join(dir, "three", "nodes")
	runs := func() bool {
		out, err := exec.Command(filepath.Join(node, "keepalived-1", runningScript)).CombinedOutput()
		if len(out) > 0 {
			t.Errorf("it says %q", out)
		}
		return err == nil
	}
	record := func(pid string) {
		t.Helper()
		text := "{\n  \"process\": {\n    \"pid\": " + pid + ",\n    \"start\": 5\n  },\n  \"plan\": \"x\"\n}\n"
		if err := os.WriteFile(filepath.Join(node, "balancer-1", RecordFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start := func(name string) string {
		t.Helper()
		sleep, err := exec.LookPath("sleep")
		if err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(dir, name)
		if err := os.Symlink(sleep, link); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(link, "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return strconv.Itoa(cmd.Process.Pid)
	}
	if runs() {
		t.Error("a balancer that was never started runs")
	}
	record(start("haproxy"))
	if !runs() {
		t.Error("a balancer that runs does not")
	}
	record(start("other"))
	if runs() {
		t.Error("another program is a balancer")
	}
	record("999999999")
	if runs() {
		t.Error("a process that is gone runs")
	}
}
