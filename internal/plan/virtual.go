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

// The virtual address: keepalived on every host that has a balancer.

// The files of a keepalived node, in its directory.
const (
	// HealthFile has 0 while a balancer of the host serves, and 1 otherwise: keepalived
	// gives the address away then. The supervisor writes it while it runs.
	HealthFile = "health"
	// CutFile has 1 while the host is cut off from the others and serves nobody, and 0
	// otherwise: as above. The host's own process writes it.
	CutFile = "cut"

	keepalivedConf = "keepalived.conf"
	runningScript  = "balancer-runs"
)

// Well and Unwell are what the health file says; a new node's is unwell.
const (
	Well   = "0\n"
	Unwell = "1\n"
)

// RecordFile is the file in a node's directory in which the supervisor keeps the pid of
// its process.
const RecordFile = "process.json"

// preemptDelay is how long a host is back before it takes the address that it prefers:
// one that comes and goes does not move it each time.
const preemptDelay = 5 * time.Second

// lowestPriority is that of the last host in VRRP; 100 is the usual one.
const lowestPriority = 100

// keepalivedData is what keepalived.conf.qtpl shows.
type keepalivedData struct {
	Stack, Node string
	User        string // whose rights the scripts have; empty: keepalived's own choice
	Health, Cut string // paths
	Runs        string // the script that looks for a balancer's process; empty: none
	Answers     string // the command that asks a balancer; empty: none
	Interface   string
	Advertise   string // seconds
	Preempts    bool
	Delay       int // seconds
	Source      string
	Peers       []string
	Instances   []vrrpInstance
}

// vrrpInstance is one address.
type vrrpInstance struct {
	Number, Router, Priority int
	Address                  string
}

// keepers are the keepalived nodes: one on every host of the balancers. One that had a
// host before keeps it. Without hosts there is none.
func keepers(s stack.Stack, placed Placement, balancers []node) (list []node) {
	if !s.Entry.Virtual.Enabled() {
		return nil
	}

	var hosts []Place
	for _, b := range balancers {
		if !slices.ContainsFunc(hosts, b.on) {
			hosts = append(hosts, b.host)
		}
	}

	named := map[int]bool{} // numbers that are taken
	names := map[string]int{}
	for name, host := range placed {
		number, is := keeperNumber(name)
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
		list = append(list, node{name: keeperName(number), kind: Keepalived, host: h})
	}

	slices.SortFunc(list, func(a, b node) int {
		x, _ := keeperNumber(a.name)
		y, _ := keeperNumber(b.name)
		return x - y
	})
	return list
}

func keeperName(number int) string { return string(Keepalived) + "-" + strconv.Itoa(number) }

// keeperNumber is the number of a keepalived node.
func keeperNumber(name string) (number int, is bool) {
	rest, is := strings.CutPrefix(name, string(Keepalived)+"-")
	number, err := strconv.Atoi(rest)
	return number, is && err == nil && number > 0
}

// keepalived is the data of a node's keepalived.conf.
func (b builder) keepalived(n node) keepalivedData {
	v := b.stack.Entry.Virtual
	all := of(b.nodes, Keepalived)
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
		// The first host comes first for the first address, the second for the second.
		rank := (place - i + len(all)) % len(all)
		d.Instances = append(d.Instances, vrrpInstance{
			Number: i + 1, Router: v.Router + i, Address: address,
			Priority: lowestPriority + len(all) - 1 - rank,
		})
	}
	return d
}

// peers are the addresses of the other hosts that may have the virtual address. Where
// there are none, the other hosts of the stack stand for them: without a peer keepalived
// would tell the whole network.
func (b builder) peers(n node) (addresses []string) {
	for _, o := range of(b.nodes, Keepalived) {
		if o.name != n.name {
			addresses = append(addresses, o.host.Address)
		}
	}
	if len(addresses) > 0 {
		return addresses
	}
	for _, h := range places(b.facts) {
		if !n.on(h) {
			addresses = append(addresses, h.Address)
		}
	}
	return addresses
}

// virtualInterface is the interface that gets the virtual address: the stack file's, or
// the one that has the host's own address; empty: nobody knows.
func (b builder) virtualInterface(n node) string {
	return cmp.Or(b.stack.Entry.Virtual.Interface, b.host(n).Interface)
}

// balancersOf are the balancers on the host of a node.
func (b builder) balancersOf(n node) []node {
	return slices.DeleteFunc(of(b.nodes, Balancer), func(o node) bool { return !o.on(n.host) })
}

// AliveCommand is the subcommand by which keepalived asks balancers whether they serve.
const AliveCommand = "balancer-alive"

// plainPath matches a path that keepalived takes as one word of a script.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9_./:+,@=-]+$`)

// asScript is a command of keepalived, which takes it apart at spaces and quotes; empty:
// it cannot be written there.
func asScript(paths ...string) string {
	if slices.ContainsFunc(paths, func(p string) bool { return !plainPath.MatchString(p) }) {
		return ""
	}
	return strings.Join(paths, " ")
}

// balancerAlive is the command that asks the balancers of a host; empty: where this
// program is cannot be written there.
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

// balancerRuns is the script that looks for the process of a balancer.
func (b builder) balancerRuns(n node) (File, error) {
	var records []string
	for _, o := range b.balancersOf(n) {
		records = append(records, b.path(o, RecordFile))
	}
	content, err := render(func(w *quicktemplate.Writer) { streambalancerRuns(w, records) })
	return File{Path: nodePath(n, runningScript), Mode: 0o700, Content: content}, err
}

// keepalivedFiles are the files of a keepalived node.
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

// keepalivedQuote writes a text of keepalived.conf.
func keepalivedQuote(text string) (string, error) {
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '"' || r == '\\' }); i >= 0 {
		return "", fmt.Errorf("%q has a character that keepalived's configuration cannot take (%q)", text, text[i])
	}
	return `"` + text + `"`, nil
}

// shellQuote writes a word of a shell.
func shellQuote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// VirtualFiles are the files that a keepalived leaves behind that was killed, and that
// keep the next one from starting where another process has its pid.
func VirtualFiles(node string) []string {
	dir := filepath.Join("nodes", node)
	return []string{filepath.Join(dir, "keepalived.pid"), filepath.Join(dir, "vrrp.pid")}
}
