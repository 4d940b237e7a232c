package plan

import (
	"fmt"

	"holdfast/internal/stack"
)

// End is what the loss of a host puts an end to.
type End string

// The ends.
const (
	EndsData     End = "data"     // no redis node is left: nothing can be read or written
	EndsWrites   End = "writes"   // what is stored can still be read
	EndsFailover End = "failover" // a master that dies in the meantime is not replaced
	EndsEntry    End = "entry"
	EndsApp      End = "application"
)

// Loss is one thing that does not work while a host is lost.
type Loss struct {
	Host string `json:"host"`
	Ends End    `json:"ends"`
	App  string `json:"app,omitempty"` // the application of EndsApp
	// Why says what is on the host, and Do what would prevent the loss.
	Why string `json:"why"`
	Do  string `json:"do"`
}

// String returns the loss as a warning.
func (l Loss) String() string {
	what := string(l.Ends)
	switch l.Ends {
	case EndsEntry:
		what = "the entry"
	case EndsApp:
		what = "the application " + l.App
	}
	return fmt.Sprintf("losing %s ends %s: %s; %s", l.Host, what, l.Why, l.Do)
}

// Losses returns what the loss of each single host would end, in the order of the hosts. It returns
// nothing for a stack without hosts or with only one: such a stack ends with its machine.
func Losses(s stack.Stack, placed Placement) (all []Loss) {
	if len(s.Hosts) < 2 {
		return nil
	}
	list := nodes(s, Facts{Hosts: HostsOf(s), Placement: placed})
	for _, h := range s.Hosts {
		l := hostLoss{stack: s, host: h.Name, all: list}
		l.sentinels()
		l.redis()
		l.entry()
		l.apps()
		all = append(all, l.losses...)
	}
	return all
}

// hostLoss collects what the loss of one host ends.
type hostLoss struct {
	stack  stack.Stack
	host   string
	all    []node
	losses []Loss
}

func (l *hostLoss) add(ends End, app, do, why string, args ...any) {
	l.losses = append(l.losses, Loss{l.host, ends, app, fmt.Sprintf(why, args...), do})
}

// split divides nodes into those on the host and the others.
func (l *hostLoss) split(list []node) (here, left []node) {
	for _, n := range list {
		if n.host.Name == l.host {
			here = append(here, n)
		} else {
			left = append(left, n)
		}
	}
	return here, left
}

// sentinels: only a majority of all Sentinels can replace a master. Any redis node of the lost host
// may have been the master.
func (l *hostLoss) sentinels() {
	here, left := l.split(ofKind(l.all, Sentinel))
	n := len(here) + len(left)
	if len(here) == 0 || len(left) > n/2 {
		return
	}
	do := "add a host with only: [sentinel]"
	switch hosts := l.stack.HostsFor(stack.OfSentinels, ""); {
	case n < 3:
		do = "set redis.sentinels: 3"
	case len(hosts) > 2:
		do = "have some of them on other hosts"
	case len(l.stack.Redis.SentinelsOn) > 0 && len(l.stack.Hosts) > 2:
		do = "name a third host in redis.sentinels-on"
	}
	ends, beside := EndsFailover, ""
	if master, _ := l.split(ofKind(l.all, Redis)); len(master) > 0 {
		ends, beside = EndsWrites, ", and the master may be"
	}
	l.add(ends, "", do, "%s there%s", portion(len(here), n, "Sentinel"), beside)
}

// redis: a master takes writes only while it has a replica (MinReplicas).
func (l *hostLoss) redis() {
	here, left := l.split(ofKind(l.all, Redis))
	n := len(here) + len(left)
	switch {
	case len(here) == 0:
	case n == 1:
		l.add(EndsData, "", "set redis.replicas: 2", "the only redis node is there")
	case len(left) == 0:
		l.add(EndsData, "", l.spreadAdvice(Redis, "", "redis.on"), "all %d redis nodes are there", n)
	case l.stack.Redis.Sentinels == 0 && here[0].name == FirstMaster:
		l.add(EndsWrites, "", "set redis.sentinels: 3", "%s is the master, and without Sentinels no other node takes its place", FirstMaster)
	case len(left) <= MinReplicas:
		do := "have some of them on other hosts"
		if need := minRedisNodes(l.stack); n < need {
			do = fmt.Sprintf("set redis.replicas: %d", need-1)
		}
		l.add(EndsWrites, "", do, "%s there, and a master without a replica takes no writes", portion(len(here), n, "redis node"))
	}
}

// minRedisNodes returns how many redis nodes a stack needs so that a master and a replica are left
// when any one host is lost: two on each of two hosts, or one on each of three.
func minRedisNodes(s stack.Stack) int {
	if hosts := len(s.HostsFor(stack.OfRedis, "")); hosts > 2 {
		return 3
	}
	return 4
}

func (l *hostLoss) entry() {
	here, left := l.split(ofKind(l.all, Balancer))
	switch {
	case len(left) > 0 || len(here) == 0:
	case len(here) == 1:
		l.add(EndsEntry, "", "write balancers: 2", "the only balancer is there")
	default:
		l.add(EndsEntry, "", l.spreadAdvice(Balancer, "", "entry.on"), "all %d balancers are there", len(here))
	}
}

func (l *hostLoss) apps() {
	for _, name := range l.stack.AppNames() {
		key := "apps." + name
		here, left := l.split(ofApp(l.all, name))
		switch n := len(here) + len(left); {
		case n == 0: // its servers are not on the stack's hosts
		case n == 1 && len(here) == 1:
			l.add(EndsApp, name, "set "+key+".nodes: 2", "its only node is there")
		case len(left) == 0:
			l.add(EndsApp, name, l.spreadAdvice(Web, name, key+".on"), "all %d of its nodes are there", n)
		case l.reachRedisHere(name, left):
			l.add(EndsApp, name, "have balancers where its nodes are", "its nodes elsewhere reach Redis (REDIS_URL) through the balancers there")
		}
	}
}

// ofApp returns the nodes of an application.
func ofApp(list []node, name string) (all []node) {
	for _, n := range ofKind(list, Web) {
		if n.app == name {
			all = append(all, n)
		}
	}
	return all
}

// reachRedisHere reports whether all of these nodes of a program reach Redis through the balancers
// of the host. See redisEnv.
func (l *hostLoss) reachRedisHere(app string, list []node) bool {
	s := l.stack
	if s.Apps[app].Kind() != stack.Command || !s.Redis.Enabled || s.Redis.Sentinels == 0 {
		return false
	}
	for _, n := range list {
		if nearest(n, l.all).Name != l.host {
			return false
		}
	}
	return true
}

// spreadAdvice returns the advice for nodes that are all on one host. key is the key of the stack
// file that names their hosts.
func (l *hostLoss) spreadAdvice(kind Kind, app, key string) string {
	switch {
	case len(l.stack.HostsFor(string(kind), app)) > 1:
		return "have some of them on another host"
	case len(l.stack.HostNamesFor(string(kind), app)) > 0:
		return "name another host in " + key
	}
	return "add a host that takes " + string(kind)
}

// portion returns "2 of 3 Sentinels are", "the only Sentinel is" or "all 3 Sentinels are".
func portion(n, of int, what string) string {
	switch {
	case of == 1:
		return "the only " + what + " is"
	case n == of:
		return fmt.Sprintf("all %d %ss are", n, what)
	case n == 1:
		return fmt.Sprintf("1 of %d %ss is", of, what)
	}
	return fmt.Sprintf("%d of %d %ss are", n, of, what)
}
