package export

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// MasterName is the name under which the Redis master is reached in the containers' network. It
// is a name of every container with a balancer, which forwards connections to the master.
const MasterName = "redis-master"

// ComposeImage is a service for a node of an application that has an image of its own.
type ComposeImage struct {
	App, Node, Address, Image string
	Args                      []string // nil for the image's own
	StopSignal                string
	Stop                      time.Duration
}

// PlaceImages returns the stack with addresses for the containers of its images, taken from the
// end of the network. Containers that had addresses before keep them, if the number of the
// application's nodes is the same.
func PlaceImages(s, before stack.Stack, network netip.Prefix) (stack.Stack, error) {
	taken := map[netip.Addr]bool{}
	for _, h := range s.Hosts {
		if a, err := netip.ParseAddr(h.Address); err == nil {
			taken[a] = true
		}
	}

	apps := map[string]stack.App{}
	var without []string
	for _, name := range s.AppNames() {
		app := s.Apps[name]
		apps[name] = app
		if app.Kind() != stack.Image {
			continue
		}

		if s.Redis.Enabled && s.Redis.MasterPort == 0 {
			s.Redis.MasterPort = plan.PodMasterPort
		}

		app.At = nil
		if at := containersOf(before.Apps[name], network); len(at) == app.Nodes && !slices.ContainsFunc(at, func(a netip.Addr) bool { return taken[a] }) {
			for _, a := range at {
				taken[a] = true
				app.At = append(app.At, net.JoinHostPort(a.String(), strconv.Itoa(app.Port)))
			}
		} else {
			without = append(without, name)
		}

		apps[name] = app
	}

	next := lastAddress(network)
	for _, name := range without {
		app := apps[name]
		for range app.Nodes {
			for next = next.Prev(); taken[next]; next = next.Prev() {
			}
			// The first address is that of the network itself, and the second that of the gateway.
			if !network.Contains(next) || next.Compare(network.Addr().Next()) <= 0 {
				return s, fmt.Errorf("the network %s has no address left for the containers of apps.%s: --subnet names a larger one", network, name)
			}
			taken[next] = true
			app.At = append(app.At, net.JoinHostPort(next.String(), strconv.Itoa(app.Port)))
		}
		apps[name] = app
	}
	s.Apps = apps
	return s, nil
}

// containersOf returns the addresses of an image's containers, or nil if not all of them are in
// the network.
func containersOf(app stack.App, network netip.Prefix) (all []netip.Addr) {
	for _, at := range app.At {
		a, err := netip.ParseAddrPort(at)
		if err != nil || !network.Contains(a.Addr()) {
			return nil
		}
		all = append(all, a.Addr())
	}
	return all
}

// lastAddress returns the broadcast address of a network.
func lastAddress(network netip.Prefix) netip.Addr {
	at := network.Addr().As4()
	for i := network.Bits(); i < 32; i++ {
		at[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(at)
}

// ComposeImages returns the nodes of images as services. The stack must come from PlaceImages.
func ComposeImages(s stack.Stack) (all []ComposeImage) {
	for _, name := range s.AppNames() {
		app := s.Apps[name]
		if app.Kind() != stack.Image {
			continue
		}
		for i, at := range app.At {
			host, port, _ := net.SplitHostPort(at)
			c := ComposeImage{
				App: name, Node: fmt.Sprintf("%s-%d", name, i+1), Address: host, Image: app.Image,
				StopSignal: app.StopSignal, Stop: app.Grace,
			}
			own := nodeVariables(c.Node, port)
			for _, arg := range app.Args {
				c.Args = append(c.Args, expand(arg, own))
			}
			all = append(all, c)
		}
	}
	return all
}

// Environment returns the environment of an image's node, as the content of an env_file of
// Compose. It contains the password of the application's user at Redis.
func (c ComposeImage) Environment(s stack.Stack, password string) string {
	app := s.Apps[c.App]
	ours := nodeVariables(c.Node, strconv.Itoa(app.Port))
	if s.Redis.Enabled {
		ours["REDIS_URL"] = plan.ProgramURL(c.App, password, net.JoinHostPort(MasterName, strconv.Itoa(s.Redis.MasterPort)))
	}
	all := maps.Clone(ours)
	for name, value := range app.Env { // the user's values override ours
		all[name] = expand(value, ours)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s=\"%s\"\n", name, envEscapes.Replace(all[name]))
	}
	return b.String()
}

// nodeVariables returns the values of stack.NodeVariables in a container. The node listens on all
// of the container's addresses, because these are its own.
func nodeVariables(node, port string) map[string]string {
	return map[string]string{"HOST": "0.0.0.0", "PORT": port, "HOLDFAST_NODE": node}
}

func expand(text string, values map[string]string) string {
	return stack.Expand(text, func(name string) (string, bool) {
		v, known := values[name]
		return v, known
	})
}

// envEscapes escapes a value in double quotes.
var envEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "\n", `\n`, "\r", `\r`)
