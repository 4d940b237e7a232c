package export

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// Compose is a stack on containers of one machine: a Docker Compose service for each host.
type Compose struct {
	Stack  string // the stack's name
	Image  string
	User   string // UID:GID that the containers run as
	Subnet string // the containers' network, such as 10.87.63.0/24
	Hosts  []ComposeHost
	Images []ComposeImage
	// Stop is how long a container may take to stop its part of the stack.
	Stop time.Duration
}

// ComposeHost is one host as a service.
type ComposeHost struct {
	Name, Address string
	Nodes         []string // the nodes that are placed there at first, sorted by name
	// LeadsToMaster is true if a balancer is among them, through which programs reach the Redis
	// master.
	LeadsToMaster bool
	Published     []Published
}

// PublishedEntry is Published.What for the entry.
const PublishedEntry = "the entry"

// Published is a port of a container that is published at an address of the machine.
type Published struct {
	What string // the node that it belongs to, or PublishedEntry
	At   string // host:port on the machine
	Port string // the port of the container
}

// firstWebPort is the port of the first web node if the stack file has none.
const firstWebPort = 5001

// OnContainers returns a stack that is changed to run on containers of one machine, and the
// address of the machine at which its entry is published. A stack without hosts gets three,
// with the addresses that address returns for the i-th host, and a trusted network, because it
// does not leave the machine. If the entry is on loopback, it listens on all addresses of the
// containers instead.
func OnContainers(s stack.Stack, address func(i int) string) (on stack.Stack, entry string) {
	own := len(s.Hosts) == 0
	if own {
		for i, name := range []string{"one", "two", "three"} {
			s.Hosts = append(s.Hosts, stack.Host{Name: name, Address: address(i)})
		}
		s.Network = stack.Trusted // it does not leave the machine
		s.Balancers = max(s.Balancers, len(s.Hosts))
	}

	entry = s.Entry.Listen
	host, port, _ := net.SplitHostPort(s.Entry.Listen)
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		s.Entry.Listen = net.JoinHostPort("0.0.0.0", port)
		if s.Entry.Auth == "" {
			s.Entry.Auth = "none" // it is published only on loopback
		}
	}

	apps := map[string]stack.App{}
	next := firstWebPort
	for _, name := range s.AppNames() {
		app := s.Apps[name]
		if own && app.KV != nil && len(app.Ports) == 0 {
			for range app.Nodes {
				app.Ports = append(app.Ports, next)
				next++
			}
		}
		apps[name] = app
	}
	s.Apps = apps
	return s, entry
}

// ComposeHosts returns the hosts of a stack as services, with the nodes that run there at first
// and the ports that are published. The first balancer's entry is published at entry, and those
// of the others at the next ports. Web nodes whose ports are in the stack file are published at
// the same ports.
func ComposeHosts(s stack.Stack, entry string) ([]ComposeHost, error) {
	placed, err := plan.Spread(s, nil)
	if err != nil {
		return nil, err
	}

	machine, word, _ := net.SplitHostPort(entry)
	next, err := strconv.Atoi(word)
	if err != nil {
		return nil, fmt.Errorf("the entry's port %q is no number", word)
	}

	_, inside, _ := net.SplitHostPort(s.Entry.Listen)
	var hosts []ComposeHost
	for _, h := range s.Hosts {
		c := ComposeHost{Name: h.Name, Address: h.Address}
		c.Nodes = nodesOn(placed, h.Name)

		c.LeadsToMaster = slices.ContainsFunc(c.Nodes, func(n string) bool { return strings.HasPrefix(n, string(plan.Balancer)+"-") })
		if c.LeadsToMaster {
			c.Published = append(c.Published, Published{PublishedEntry, net.JoinHostPort(machine, strconv.Itoa(next)), inside})
			next++
		}

		for _, app := range s.AppNames() {
			for i, port := range s.Apps[app].Ports {
				node := fmt.Sprintf("%s-%d", app, i+1)
				if placed[node] == h.Name && s.Network == stack.Trusted {
					at := strconv.Itoa(port)
					c.Published = append(c.Published, Published{node, net.JoinHostPort("127.0.0.1", at), at})
				}
			}
		}
		hosts = append(hosts, c)
	}
	return hosts, nil
}

// File returns the content of compose.yaml. Its template is compose.qtpl.
func (c Compose) File() string { return composeFile(c) }

// composeQuoted returns a text as a YAML string in which Compose replaces no variables.
func composeQuoted(text string) string { return quoted(strings.ReplaceAll(text, "$", "$$")) }

// nodesOn returns the nodes that are placed on a host, sorted by name.
func nodesOn(placed plan.Placement, host string) (names []string) {
	for node, at := range placed {
		if at == host {
			names = append(names, node)
		}
	}
	slices.Sort(names)
	return names
}
