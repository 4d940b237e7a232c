package plan

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/stack"
)

// Action is what a node needs to become what another plan wants.
type Action string

// The actions.
const (
	Untouched Action = "untouched"
	Start     Action = "start"
	Stop      Action = "stop"
	Restart   Action = "restart" // a new process, after the old one has ended
	Reload    Action = "reload"  // new files, which the running process takes up
	Set       Action = "set"     // settings that a Redis or Sentinel takes while it runs

	// HandOver and Forget occur only as steps. HandOver makes another redis node the master before
	// this one leaves or moves. Forget makes a Sentinel forget the nodes that are gone (Step.Gone);
	// it can only forget all nodes and find the others again.
	HandOver Action = "hand over"
	Forget   Action = "forget"
)

// NodeChange is what one node needs.
type NodeChange struct {
	Node   string `json:"node"`
	Kind   Kind   `json:"kind"`
	App    string `json:"app,omitempty"`
	Action Action `json:"action"`
	// Causes are the keys of the stack file that require the change, such as apps.web.env.LEVEL.
	// They are empty where another version of Holdfast is the cause.
	Causes []string `json:"causes,omitempty"`
	// From and To are the old and the new address of a node that moves. They are empty for a node
	// that stays.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Settings are what the action Set sets.
	Settings *Settings `json:"settings,omitempty"`
	// Quiet is true for an untouched node about which only the supervisor has to learn something
	// new, such as how long it may take to end.
	Quiet bool `json:"-"`
}

// Diff compares the running plan of a host (old) with the wanted one (now), node by node. It
// returns the nodes of the new plan in the order of their start, and then the nodes that only the
// old plan has. The differences are those between the two stacks.
func Diff(old, now Host, differences []stack.Difference) []NodeChange {
	var all []NodeChange
	for _, p := range now.Processes {
		before, there := process(old, p.Node)
		c := NodeChange{Node: p.Node, Kind: p.Kind, App: p.App, Action: Untouched}
		if !there {
			c.Action, c.Causes = Start, startCauses(p, differences)
			all = append(all, c)
			continue
		}
		c.compare(before, p, filesOf(old, p.Node), filesOf(now, p.Node), differences)
		all = append(all, c)
	}
	for _, p := range old.Processes {
		if _, there := process(now, p.Node); !there {
			all = append(all, NodeChange{Node: p.Node, Kind: p.Kind, App: p.App, Action: Stop, Causes: startCauses(p, differences)})
		}
	}
	return all
}

// process returns a node's process, and whether the host has one.
func process(h Host, node string) (Process, bool) {
	i := slices.IndexFunc(h.Processes, func(p Process) bool { return p.Node == node })
	if i < 0 {
		return Process{}, false
	}
	return h.Processes[i], true
}

// filesOf returns the contents of those files of a node that are rewritten when they change, by
// file name.
func filesOf(h Host, node string) map[string]string {
	files := map[string]string{}
	for _, f := range h.Files {
		if !f.Once && strings.HasPrefix(f.Path, nodePath(builderNode(node))+"/") {
			files[filepath.Base(f.Path)] = f.Content
		}
	}
	return files
}

func builderNode(name string) node { return node{name: name} }

// RestartKey returns what a process is started with: a process with the same essence and the same
// files needs no restart. It leaves out what only the supervisor uses, and what may wait for the
// next start.
func (p Process) RestartKey() Process {
	p.Release = "" // Dir has the digest in it
	if p.Kind == Balancer {
		p.Address = "" // where it listens is in its configuration
	}
	p.Probe, p.Start, p.Stage, p.StopSignal, p.Grace = Probe{}, 0, 0, "", 0
	p.Env = slices.DeleteFunc(slices.Clone(p.Env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(p.RestartFreeEnv, name)
	})
	p.RestartFreeEnv = nil
	return p
}

// compare finds out what a node that both plans have needs.
func (c *NodeChange) compare(old, now Process, oldFiles, newFiles map[string]string, differences []stack.Difference) {
	parts := changedParts(old.RestartKey(), now.RestartKey())
	if old.Address != now.Address {
		c.From, c.To = old.Address, now.Address
	}
	var files []string
	for name, content := range newFiles {
		if oldFiles[name] != content {
			files = append(files, name)
		}
	}
	slices.Sort(files)
	switch {
	case len(parts) > 0:
		c.Action = Restart
	case len(files) == 0:
		c.Quiet = !samePlan(old, now)
		return
	case c.Kind.Traits().Reloads:
		c.Action = Reload
	case c.Kind.Traits().Settable:
		c.Action = Restart
		if s, all := settings(c.Kind, oldFiles, newFiles); all {
			c.Action, c.Settings = Set, &s
		}
	default:
		c.Action = Restart
	}
	c.Causes = causes(now, append(parts, files...), differences)
}

// samePlan reports whether the part of a process that only the supervisor uses is the same, too.
func samePlan(a, b Process) bool {
	return a.Address == b.Address && a.Probe == b.Probe && a.Start == b.Start && a.Stage == b.Stage && a.StopSignal == b.StopSignal && a.Grace == b.Grace &&
		slices.Equal(a.Env, b.Env) && slices.Equal(a.RestartFreeEnv, b.RestartFreeEnv)
}

// changedParts returns the parts of a process that differ: program, args, dir, address, admin, and
// the variables of its environment as "env.NAME".
func changedParts(old, now Process) []string {
	var parts []string
	add := func(name string, same bool) {
		if !same {
			parts = append(parts, name)
		}
	}
	add("program", old.Program == now.Program)
	add("args", slices.Equal(old.Args, now.Args))
	add("dir", old.Dir == now.Dir)
	add("address", old.Address == now.Address)
	add("admin", old.Admin == now.Admin)
	before, after := variables(old.Env), variables(now.Env)
	for name, value := range after {
		if v, there := before[name]; !there || v != value {
			parts = append(parts, "env."+name)
		}
	}
	for name := range before {
		if _, there := after[name]; !there {
			parts = append(parts, "env."+name)
		}
	}
	slices.Sort(parts)
	return parts
}

func variables(env []string) map[string]string {
	all := map[string]string{}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		all[name] = value
	}
	return all
}

// startCauses returns the keys because of which a node comes or goes.
func startCauses(p Process, differences []stack.Difference) []string {
	if keys := p.Kind.Traits().Keys; keys != nil {
		if found := matching(differences, keys...); len(found) > 0 {
			return found
		}
		return matching(differences, onKey(p), "hosts")
	}
	app := "apps." + p.App
	if found := matching(differences, app+".nodes"); len(found) > 0 && len(matching(differences, app+".health.path")) == 0 {
		return found
	}
	moved := matching(differences, onKey(p), "hosts")
	if len(matching(differences, app+".")) > len(matching(differences, onKey(p))) {
		return []string{app}
	}
	return moved
}

// onKey returns the key of the stack file that lists the hosts on which a node may run.
func onKey(p Process) string {
	return cmp.Or(p.Kind.Traits().On, "apps."+p.App+".on")
}

// hasAddresses reports whether a part of a process contains addresses of nodes, which follow from
// the hosts.
func hasAddresses(part string) bool {
	switch part {
	case "address", "admin", "haproxy.cfg", "base.conf", keepalivedConf, "env.HOST", "env.HOLDFAST_LISTEN", "env.HOLDFAST_LISTEN_TLS", "env.HOLDFAST_ADMIN":
		return true
	}
	return strings.HasPrefix(part, "env.REDIS_")
}

// forBalancers are the keys that the balancers' configuration depends on; appForBalancers are those
// below an application.
var (
	forBalancers    = []string{"entry.", "balancers", "routes", "tcp", "timeouts.", "retries", "redis.enabled", "redis.replicas", "redis.ports"}
	appForBalancers = []string{"kv.hold", "kv.admin", "kv.reads", "kv.allow", "files", "command", "servers", "nodes", "ports", "on", "grace", "sticky", "connections", "queue", "timeouts.", "health."}
	// hostNames are the keys that HOLDFAST_HOSTS is made of.
	hostNames = []string{"entry.hosts", "routes"}
)

// causes returns the keys of the stack file that change these parts and files of a node.
func causes(p Process, parts []string, differences []stack.Difference) []string {
	var found []string
	add := func(keys ...string) { found = append(found, matching(differences, keys...)...) }
	app := "apps." + p.App + "."
	for _, part := range parts {
		variable, isVariable := strings.CutPrefix(part, "env.")
		if hasAddresses(part) {
			add("hosts")
		}
		switch {
		case p.Kind == Balancer:
			add(forBalancers...)
			for _, d := range differences {
				if rest, is := strings.CutPrefix(d.Key, "apps."); is {
					_, below, _ := strings.Cut(rest, ".")
					if atOrBelow(below, appForBalancers) {
						found = append(found, d.Key)
					}
				}
			}
		case p.Kind == Keepalived:
			add("entry.virtual", "entry.on", "balancers")
		case p.Kind == Redis || p.Kind == Sentinel:
			add("redis.")
			if part == "users.acl" || part == "base.conf" {
				for _, d := range differences {
					if strings.HasPrefix(d.Key, "apps.") && atOrBelow(afterApp(d.Key), []string{"kv.allow", "kv.scripts", "kv.limits.body", "kv.limits.answer", "command", "redis."}) {
						found = append(found, d.Key)
					}
				}
			}
		case isVariable && variable == "HOLDFAST_HOSTS":
			add(hostNames...)
			for _, d := range differences {
				if strings.HasSuffix(d.Key, ".health.host") {
					found = append(found, d.Key)
				}
			}
		case isVariable && strings.HasPrefix(variable, "REDIS_") && variable != "REDIS_SCRIPT_USERS":
			add("redis.", app+"redis.", app+"env."+variable)
		case isVariable:
			add(app+"env."+variable, app+"kv.", "entry.auth")
		case part == "address" || part == "admin":
			add(app+"ports", app+"kv.admin")
		case part == "args" || part == "program":
			add(app+"command", app+"files", app+"kv")
		case part == "dir":
			add(app + "dir")
		default:
			add(app + "kv.tokens")
		}
	}

	if len(found) == 0 && p.App != "" {
		add(app)
	}

	slices.Sort(found)
	return slices.Compact(found)
}

// afterApp returns the part of a key below its application.
func afterApp(key string) string {
	parts := strings.SplitN(key, ".", 3)
	if len(parts) < 3 {
		return ""
	}
	return parts[2]
}

// atOrBelow reports whether a key is one of these keys or stands below one of them.
func atOrBelow(key string, keys []string) bool {
	return slices.ContainsFunc(keys, func(k string) bool {
		return key == strings.TrimSuffix(k, ".") || strings.HasPrefix(key, strings.TrimSuffix(k, ".")+".")
	})
}

// matching returns the keys of the differences at or below these keys.
func matching(differences []stack.Difference, keys ...string) []string {
	var found []string
	for _, d := range differences {
		if atOrBelow(d.Key, keys) {
			found = append(found, d.Key)
		}
	}
	return found
}

// Moves reports whether the node gets another address.
func (c NodeChange) Moves() bool { return c.From != "" }
