package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// Hosts are network namespaces, connected by a bridge. The bridge has a namespace of its own, so
// that no packet filter of this machine affects it. Each host has a state directory and a holdfast
// process of its own, as a machine has (hosts_up.go). One more cable connects the bridge to this
// machine: over it the clients reach the hosts, and it can be cut like the others.

// host is one machine: of the drill's own, or a user's.
type host struct {
	name    string // such as host-1
	address netip.Addr
	netns   string // the namespace's name; empty: it is a user's machine
	port    string // its port at the bridge
}

// hosts are machines: of the drill's own, in network namespaces, or a user's. A user's have only a
// name and an address.
type hosts struct {
	// tag is the name of this machine's end of its cable, and the prefix of every namespace's name.
	tag     string
	bridge  string // the bridge's namespace
	machine netip.Addr
	all     []host
	// scheme and entryPort are those of the stack's entries.
	scheme    string
	entryPort int
}

// clients is the name of the side of a cut that is no host: this machine, with the clients.
const clients = "clients"

const (
	netnsDir    = "/run/netns"
	clientsPort = "machine" // this machine's port at the bridge
	hostLink    = "eth0"    // a host's end of its cable
	// The last numbers of addresses in the drill's network. Hosts count from one.
	machineNumber = 254
	maxHosts      = 200
)

// addresses is reserved for benchmarks between networks (RFC 2544). Only other drills and some
// tunnels may use it, and freeNetwork avoids what they have.
var addresses = netip.MustParsePrefix("198.18.0.0/15")

// hostsPossible returns why the drill cannot make hosts, as a sentence; nil: it can.
func hostsPossible() error {
	const what = "this fault needs hosts or disks of its own"
	if runtime.GOOS != "linux" {
		return fmt.Errorf("%s, which the drill makes of Linux' namespaces: run it on Linux, or in a virtual machine", what)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s, and only root can make them: run it with sudo", what)
	}
	if !capable() {
		return fmt.Errorf("%s, and this root may not make them: give the container CAP_SYS_ADMIN and CAP_NET_ADMIN (docker run --privileged)", what)
	}
	for program, packet := range map[string]string{"ip": "iproute2", "nft": "nftables"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s, and the program %s is missing: install it with 'apt-get install %s'", what, program, packet)
		}
	}
	return nil
}

// capable reports whether this process may make namespaces and links.
func capable() bool {
	const netAdmin, sysAdmin = 1 << 12, 1 << 21 // capabilities(7)
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return true // the attempt will show it
	}
	_, rest, found := strings.Cut(string(b), "CapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return !found || err != nil || mask&netAdmin != 0 && mask&sysAdmin != 0
}

// makeHosts makes one host for each declared host and connects them. The steps that remove them are
// in the journal before there is anything to remove. No process runs on them yet.
func makeHosts(ctx context.Context, j *journal, declared []stack.Host) (*hosts, error) {
	if n := len(declared); n < 1 || n > maxHosts {
		return nil, fmt.Errorf("%d hosts cannot be made, at most %d", n, maxHosts)
	}
	if err := hostsPossible(); err != nil {
		return nil, err
	}

	h := newHosts(declared)
	if err := h.makeNetns(ctx, j, h.bridge); err != nil {
		return nil, err
	}
	err := ip(ctx, h.bridge, "link add br0 type bridge", "link set br0 up", "link set lo up")
	if err != nil {
		return nil, err
	}
	// Nothing is cut yet. This only shows, before anything starts, whether the kernel can cut.
	if err := h.nft(ctx, "add table bridge cut\ndelete table bridge cut\n"); err != nil {
		return nil, fmt.Errorf("this kernel cannot filter what crosses a bridge (nf_tables): %w", err)
	}

	if err := h.plugMachine(ctx, j); err != nil {
		return nil, err
	}

	for i := range h.all {
		if err := h.makeHost(ctx, j, &h.all[i], i+1); err != nil {
			return nil, err
		}
	}
	return h, h.awaitLinks(ctx)
}

// newHosts chooses the names of the hosts' parts.
func newHosts(declared []stack.Host) *hosts {
	// The name of a link has at most 15 characters.
	tag := fmt.Sprintf("hf-%d-%04x", os.Getpid(), rand.IntN(1<<16))
	h := &hosts{tag: tag, bridge: tag + "-0", scheme: "http", entryPort: hostsPort}
	for i, d := range declared {
		number := strconv.Itoa(i + 1)
		h.all = append(h.all, host{name: d.Name, netns: tag + "-" + number, port: "e" + number})
	}
	return h
}

// makeNetns makes a network namespace. To undo that, the processes in it are killed first: they
// would keep the namespace alive without a name.
func (h *hosts) makeNetns(ctx context.Context, j *journal, name string) error {
	path := filepath.Join(netnsDir, name)
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("the network namespace %s is there already: somebody else's", name)
	}
	for _, st := range []step{
		{Why: "the network namespace " + name, Command: []string{"ip", "netns", "delete", name}, Unless: path},
		{Why: "what runs in " + name, Command: []string{"sh", "-c", killAll, "sh", name}, Unless: path},
	} {
		if _, err := j.add(st); err != nil {
			return err
		}
	}
	return run(ctx, "", "ip", "netns", "add", name)
}

// killAll is a script that kills what runs in the namespace $1. The second round finds processes
// that were created during the first.
const killAll = `for i in 1 2; do ip netns pids "$1" | xargs -r kill -9 2>/dev/null; done; exit 0`

// plugMachine connects this machine to the bridge, with an address from a network that this machine
// does not use otherwise.
func (h *hosts) plugMachine(ctx context.Context, j *journal) error {
	_, err := j.add(step{
		Why: "the link " + h.tag, Command: []string{"ip", "link", "delete", h.tag},
		Unless: filepath.Join("/sys/class/net", h.tag),
	})
	if err != nil {
		return err
	}

	err = ip(ctx, "", fmt.Sprintf("link add %s type veth peer name %s netns %s", h.tag, clientsPort, h.bridge))
	if err != nil {
		return err
	}
	if err := ip(ctx, h.bridge, "link set "+clientsPort+" master br0 up"); err != nil {
		return err
	}

	// Another drill may choose the same network at the same time: look again afterwards, and choose
	// anew if it did.
	const tries = 20
	for range tries {
		network, err := freeNetwork()
		if err != nil {
			return err
		}
		h.assignAddresses(network)
		err = ip(ctx, "", fmt.Sprintf("address add %s/24 dev %s", h.machine, h.tag), "link set "+h.tag+" up")
		if err != nil {
			return err
		}
		others, err := machineNetworks(h.tag)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(others, network.Overlaps) {
			return nil
		}
		if err := ip(ctx, "", "address flush dev "+h.tag); err != nil {
			return err
		}
	}
	return errNoNetwork
}

var errNoNetwork = fmt.Errorf("no network of %v is free on this machine", addresses)

// assignAddresses gives this machine and all hosts addresses of a network.
func (h *hosts) assignAddresses(network netip.Prefix) {
	base := network.Addr().As4()
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{base[0], base[1], base[2], byte(i)}) }
	h.machine = at(machineNumber)
	for i := range h.all {
		h.all[i].address = at(i + 1)
	}
}

// freeNetwork returns a random network of 256 addresses that overlaps no network of this machine.
func freeNetwork() (netip.Prefix, error) {
	taken, err := machineNetworks("")
	if err != nil {
		return netip.Prefix{}, err
	}
	return chooseNetwork(taken, rand.IntN(networks))
}

// networks is how many networks there are to choose from.
const networks = 512

// chooseNetwork returns the first network that overlaps none of the taken ones, counting from the
// given number on.
func chooseNetwork(taken []netip.Prefix, from int) (netip.Prefix, error) {
	base := addresses.Addr().As4()
	for i := range networks {
		n := (from + i) % networks
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{base[0], base[1] + byte(n/256), byte(n), 0}), 24)
		if !slices.ContainsFunc(taken, func(t netip.Prefix) bool { return t.Bits() > 0 && t.Overlaps(p) }) {
			return p, nil
		}
	}
	return netip.Prefix{}, errNoNetwork
}

// machineNetworks returns the IPv4 networks of all this machine's links but one.
func machineNetworks(but string) ([]netip.Prefix, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var all []netip.Prefix
	for _, l := range links {
		if l.Name == but {
			continue
		}
		addrs, err := l.Addrs()
		if err != nil {
			continue // the link was removed just now
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				all = append(all, p.Masked())
			}
		}
	}
	return all, nil
}

// makeHost makes one host and connects it to the bridge.
func (h *hosts) makeHost(ctx context.Context, j *journal, one *host, number int) error {
	if err := h.makeNetns(ctx, j, one.netns); err != nil {
		return err
	}
	err := ip(ctx, h.bridge,
		fmt.Sprintf("link add %s type veth peer name %s netns %s", one.port, hostLink, one.netns),
		"link set "+one.port+" master br0 up",
	)
	if err != nil {
		return err
	}
	return ip(ctx, one.netns, "link set lo up",
		fmt.Sprintf("address add %s/24 dev %s", one.address, hostLink), "link set "+hostLink+" up")
}

// awaitLinks waits until every host can be reached: until its kernel refuses a connection.
func (h *hosts) awaitLinks(ctx context.Context) error {
	for _, one := range h.all {
		err := await(ctx, "a way to "+one.name+" at "+one.address.String(), 5*time.Second, func() bool {
			conn, err := net.DialTimeout("tcp", net.JoinHostPort(one.address.String(), "1"), time.Second)
			if err == nil {
				conn.Close()
			}
			return err == nil || isRefused(err)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// entries returns where clients find the stack: at its virtual addresses, or else at each host that
// has a balancer.
func (h *hosts) entries(virtual []string, p plan.Plan) []string {
	var all []string
	for _, address := range virtual {
		all = append(all, h.entryURL(address))
	}
	if len(all) > 0 {
		return all
	}
	for _, of := range p.Hosts {
		balances := slices.ContainsFunc(of.Processes, func(n plan.Process) bool { return n.Kind == plan.Balancer })
		if one := h.named(of.Name); balances && one.name != "" {
			all = append(all, h.entryURL(one.address.String()))
		}
	}
	return all
}

// entryURL returns the URL of the entry at an address.
func (h *hosts) entryURL(address string) string {
	return h.scheme + "://" + net.JoinHostPort(address, strconv.Itoa(h.entryPort))
}

// hostOf returns the host on which a node runs.
func (h *hosts) hostOf(node supervise.NodeStatus) host { return h.named(node.Host) }

func (h *hosts) named(name string) host {
	i := slices.IndexFunc(h.all, func(one host) bool { return one.name == name })
	if i < 0 {
		return host{}
	}
	return h.all[i]
}

// except returns all hosts except the given ones.
func (h *hosts) except(some ...host) []host {
	return slices.DeleteFunc(slices.Clone(h.all), func(one host) bool { return slices.Contains(some, one) })
}

// pids returns the processes on a host.
func (one host) pids(ctx context.Context) ([]int, error) {
	out, err := output(ctx, "", "ip", "netns", "pids", one.netns)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, word := range strings.Fields(out) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// ip runs commands of ip(8), in a namespace unless netns is empty.
func ip(ctx context.Context, netns string, commands ...string) error {
	args := []string{"-batch", "-"}
	if netns != "" {
		args = append([]string{"-netns", netns}, args...)
	}
	return run(ctx, strings.Join(commands, "\n")+"\n", "ip", args...)
}

// nft runs commands of nft(8) at the bridge: all of them, or none.
func (h *hosts) nft(ctx context.Context, commands string) error {
	return run(ctx, commands, "ip", "netns", "exec", h.bridge, "nft", "-f", "-")
}

func run(ctx context.Context, input, name string, args ...string) error {
	_, err := output(ctx, input, name, args...)
	return err
}

// output runs a program of the system and returns what it prints. Its error has the program's
// standard error output.
func output(ctx context.Context, input, name string, args ...string) (string, error) {
	return outputIn(ctx, "", input, name, args...)
}

// outputIn is output in another working directory.
func outputIn(ctx context.Context, dir, input, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.Output()
	if err == nil {
		return string(out), nil
	}
	said := strings.TrimSpace(input)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		said = strings.TrimSpace(string(exit.Stderr))
	}
	return "", fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, said)
}
