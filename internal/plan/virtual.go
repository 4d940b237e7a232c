package plan

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/quicktemplate"

	"holdfast/internal/stack"
)

// The virtual address: a keepalived runs on every host that has a balancer.

// The files of a keepalived node, in its directory.
const (
	// HealthFile contains 0 while a balancer of the host serves, and 1 otherwise; at 1 keepalived
	// gives the address away. The supervisor writes it while it runs.
	HealthFile = "health"
	// CutFile contains 1 while the host is cut off from the others and serves nobody, and 0
	// otherwise; at 1 keepalived gives the address away. The host's own process writes it.
	CutFile = "cut"

	keepalivedConf = "keepalived.conf"
	runningScript  = "balancer-runs"
)

// Well and Unwell are the contents of HealthFile. A new node's is Unwell.
const (
	Well   = "0\n"
	Unwell = "1\n"
)

// RecordFile is the file in a node's directory in which the supervisor stores the pid of its
// process.
const RecordFile = "process.json"

// preemptDelay is how long a host has to be back before it takes the address that it prefers. So a
// host that comes and goes does not move the address each time.
const preemptDelay = 5 * time.Second

// lowestPriority is the priority of the last host in VRRP. 100 is the usual value.
const lowestPriority = 100

// keepalivedData is what keepalived.conf.qtpl fills in.
type keepalivedData struct {
	Stack, Node string
	User        string // user that the scripts run as; empty: keepalived's own choice
	Health, Cut string // paths
	Runs        string // script that looks for a balancer's process; empty: none
	Answers     string // command that asks a balancer; empty: none
	Interface   string
	Advertise   string // seconds
	Preempts    bool
	Delay       int // seconds
	Source      string
	Peers       []string
	Instances   []vrrpInstance
}

// vrrpInstance is one virtual address.
type vrrpInstance struct {
	Number, Router, Priority int
	Address                  string
}

// keepalivedNodes returns the keepalived nodes, one for each host with a balancer. A host keeps the
// node that it had before. Without hosts there are no keepalived nodes.
func keepalivedNodes(s stack.Stack, placed Placement, balancers []node) (list []node) {
	if !s.Entry.Virtual.Enabled() {
		return nil
	}

	var hosts []Place
	for _, b := range balancers {
		if !slices.ContainsFunc(hosts, b.runsOn) {
			hosts = append(hosts, b.host)
		}
	}

	named := map[int]bool{} // numbers in use
	names := map[string]int{}
	for name, host := range placed {
		number, is := keepalivedNumber(name)
		if is && slices.ContainsFunc(hosts, func(h Place) bool { return h.Name == host }) && (names[host] == 0 || number < names[host]) {
			names[host] = number
		}
	}

	for _, number := range names {
		named[number] = true
	}

	next := 1
	for _, h := range hosts {
		number := names[h.Name]
		for ; number == 0; next++ {
			if !named[next] {
				number = next
			}
		}
		list = append(list, node{name: keepalivedName(number), kind: Keepalived, host: h})
	}

	slices.SortFunc(list, func(a, b node) int {
		x, _ := keepalivedNumber(a.name)
		y, _ := keepalivedNumber(b.name)
		return x - y
	})
	return list
}

func keepalivedName(number int) string { return string(Keepalived) + "-" + strconv.Itoa(number) }

// keepalivedNumber returns the number of a keepalived node, or false for another name.
func keepalivedNumber(name string) (number int, is bool) {
	rest, is := strings.CutPrefix(name, string(Keepalived)+"-")
	number, err := strconv.Atoi(rest)
	return number, is && err == nil && number > 0
}

// keepalived returns the data of a node's keepalived.conf.
func (b builder) keepalived(n node) keepalivedData {
	v := b.stack.Entry.Virtual
	all := ofKind(b.nodes, Keepalived)
	d := keepalivedData{
		Stack: b.stack.Name, Node: n.name, User: b.host(n).User,
		Health: b.path(n, HealthFile), Cut: b.path(n, CutFile), Runs: asScript(b.path(n, runningScript)), Answers: b.balancerAlive(n),
		Interface: cmp.Or(b.virtualInterface(n), "<the interface of "+n.host.Name+">"),
		Advertise: strconv.FormatFloat(v.Advertise.Seconds(), 'f', -1, 64),
		Preempts:  len(v.Addresses) > 1, Delay: int(preemptDelay / time.Second),
		Source: n.host.Address, Peers: b.peers(n),
	}
	place := slices.IndexFunc(all, func(o node) bool { return o.name == n.name })
	for i, address := range v.Addresses {
		// The first host has precedence for the first address, and the second for the second.
		rank := (place - i + len(all)) % len(all)
		d.Instances = append(d.Instances, vrrpInstance{
			Number: i + 1, Router: v.Router + i, Address: address,
			Priority: lowestPriority + len(all) - 1 - rank,
		})
	}
	return d
}

// peers returns the addresses of the other hosts that may hold the virtual address. If there are
// none, it returns those of the stack's other hosts, because without a peer keepalived would use
// multicast to the whole network.
func (b builder) peers(n node) (addresses []string) {
	for _, o := range ofKind(b.nodes, Keepalived) {
		if o.name != n.name {
			addresses = append(addresses, o.host.Address)
		}
	}
	if len(addresses) > 0 {
		return addresses
	}
	for _, h := range places(b.facts) {
		if !n.runsOn(h) {
			addresses = append(addresses, h.Address)
		}
	}
	return addresses
}

// virtualInterface returns the interface that gets the virtual address: the one in the stack file,
// or else the one with the host's own address; empty: unknown.
func (b builder) virtualInterface(n node) string {
	return cmp.Or(b.stack.Entry.Virtual.Interface, b.host(n).Interface)
}

// balancersOf returns the balancers on the host of a node.
func (b builder) balancersOf(n node) []node {
	return slices.DeleteFunc(ofKind(b.nodes, Balancer), func(o node) bool { return !o.runsOn(n.host) })
}

// AliveCommand is the subcommand with which keepalived asks whether a balancer serves.
const AliveCommand = "balancer-alive"

// plainPath matches a path that keepalived reads as one word of a script.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9_./:+,@=-]+$`)

// asScript returns a command for keepalived, which splits it at spaces and quotes. It returns "" if
// a path needs quoting.
func asScript(paths ...string) string {
	if slices.ContainsFunc(paths, func(p string) bool { return !plainPath.MatchString(p) }) {
		return ""
	}
	return strings.Join(paths, " ")
}

// balancerAlive returns the command that asks the balancers of a host, or "" if the path of this
// program or of a socket cannot be written there.
func (b builder) balancerAlive(n node) string {
	var sockets []string
	for _, o := range b.balancersOf(n) {
		sockets = append(sockets, b.path(o, BalancerSocket))
	}
	self, of := asScript(b.host(n).Self), asScript(sockets...)
	if self == "" || of == "" {
		return ""
	}
	return self + " " + AliveCommand + " " + of
}

// balancerRuns returns the script that looks for the process of a balancer.
func (b builder) balancerRuns(n node) (File, error) {
	var records []string
	for _, o := range b.balancersOf(n) {
		records = append(records, b.path(o, RecordFile))
	}
	content, err := render(func(w *quicktemplate.Writer) { streambalancerRuns(w, records) })
	return File{Path: nodePath(n, runningScript), Mode: 0o700, Content: content}, err
}

// keepalivedFiles returns the files of a keepalived node.
func (b builder) keepalivedFiles(n node) ([]File, error) {
	content, err := render(func(w *quicktemplate.Writer) { streamkeepalivedSettings(w, b.keepalived(n)) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keepalivedConf, err)
	}
	script, err := b.balancerRuns(n)
	if err != nil {
		return nil, err
	}
	return []File{
		{Path: nodePath(n, keepalivedConf), Mode: 0o600, Content: content},
		script,
		{Path: nodePath(n, HealthFile), Mode: 0o600, Content: Unwell, Once: true},
		{Path: nodePath(n, CutFile), Mode: 0o600, Content: Well, Once: true},
	}, nil
}

// keepalivedProcess fills in the process of a keepalived node.
func (b builder) keepalivedProcess(n node, p *Process) {
	p.Address = "" // it listens on no port
	p.Args = []string{
		"--dont-fork", "--log-console", "--no-syslog", "--vrrp",
		"--use-file", b.path(n, keepalivedConf),
		"--pid", b.path(n, "keepalived.pid"), "--vrrp_pid", b.path(n, "vrrp.pid"),
	}
	p.Virtual = b.stack.Entry.Virtual.Bare()
	p.Interface = b.virtualInterface(n)
}

// keepalivedQuote returns a quoted text of keepalived.conf.
func keepalivedQuote(text string) (string, error) {
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '"' || r == '\\' }); i >= 0 {
		return "", fmt.Errorf("%q has a character that keepalived's configuration cannot take (%q)", text, text[i])
	}
	return `"` + text + `"`, nil
}

// shellQuote returns a quoted word of a shell.
func shellQuote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// VirtualFiles returns the pid files that a killed keepalived leaves behind. If another process has
// that pid, they would keep the next keepalived from starting.
func VirtualFiles(node string) []string {
	dir := filepath.Join("nodes", node)
	return []string{filepath.Join(dir, "keepalived.pid"), filepath.Join(dir, "vrrp.pid")}
}
