package plan

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// redisEnv returns the variables that tell an application's node where Redis is and which user to
// log in as, or nil when the stack has no Redis. own is true for Holdfast's own web nodes, which
// speak TLS with Redis and the Sentinels themselves.
//
// Without Sentinels the master never moves, so a node connects to it directly. The balancers' port
// would not do: they start later, and a node that is ready only with Redis would wait for them.
func (b builder) redisEnv(n node, as redisUser, own bool) map[string]string {
	if !b.stack.Redis.Enabled {
		return nil
	}
	// Some variables are set to nothing, so that the supervisor's own values do not reach the node.
	env := map[string]string{"REDIS_SENTINELS": "", "REDIS_MASTER_NAME": ""}
	sentinels := ofKind(b.nodes, Sentinel)
	at, encrypted := b.address(b.master()), b.encrypts()
	if len(sentinels) > 0 {
		at, encrypted = b.redisEntryFor(n)
		// A program that knows Sentinels would speak with them without TLS.
		if own || !b.encrypts() {
			env["REDIS_SENTINELS"], env["REDIS_MASTER_NAME"] = strings.Join(b.addresses(sentinels), ","), b.stack.Name
		}
	}
	scheme := "redis"
	if own {
		env["REDIS_CA"], env["REDIS_CERT"], env["REDIS_KEY"] = "", "", ""
		encrypted = b.encrypts()
	}
	if encrypted {
		w := b.wire(n)
		scheme = "rediss"
		env["REDIS_CA"], env["REDIS_CERT"], env["REDIS_KEY"] = w.Authority, w.Certificate, w.Certificate
	}
	env["REDIS_URL"] = redisURL(scheme, as, at)
	return env
}

// ProgramURL returns REDIS_URL for an application's program that reaches the master at an address
// (host:port) without TLS.
func ProgramURL(app, password, at string) string {
	return redisURL("redis", redisUser{Name: programUserName(app), Password: password}, at)
}

func redisURL(scheme string, as redisUser, at string) string {
	return fmt.Sprintf("%s://%s:%s@%s/%d", scheme, as.Name, as.Password, at, dataDatabase)
}

// redisEntryFor returns the address at which a node's program reaches the Redis master through a
// balancer, and whether TLS is needed there. On the node's own host it is not: nothing leaves the
// host in plain text.
func (b builder) redisEntryFor(n node) (address string, encrypted bool) {
	port := strconv.Itoa(b.facts.Ports[PortRedisMaster])
	host := nearest(n, b.nodes)
	if b.encrypts() && n.runsOn(host) {
		return net.JoinHostPort(loopback, port), false
	}
	return net.JoinHostPort(host.Address, port), b.encrypts()
}

// masterListen returns where a balancer listens for programs that want the Redis master: at the
// address of its host and at the loopback address. Programs on a machine that has just become one
// of several hosts still know only the loopback address.
func (b builder) masterListen(n node) string {
	port := strconv.Itoa(b.facts.Ports[PortRedisMaster])
	listen := net.JoinHostPort(n.host.Address, port)
	if len(b.stack.Hosts) == 0 || n.host.loopback() {
		return listen
	}
	return listen + "," + net.JoinHostPort(loopback, port)
}

// loopback is an address that only the host itself can reach.
const loopback = "127.0.0.1"

// nearest returns the host of the balancers through which a node's program reaches Redis: the
// node's own host, unless it has no balancer.
func nearest(n node, all []node) Place {
	balancers := ofKind(all, Balancer)
	for _, other := range balancers {
		if other.runsOn(n.host) {
			return n.host
		}
	}
	if len(balancers) == 0 {
		return n.host
	}
	return balancers[0].host
}

// calledFromElsewhere reports whether programs on other hosts reach Redis through the balancers of
// a host.
func (b builder) calledFromElsewhere(h Place) bool {
	for _, n := range ofKind(b.nodes, Web) {
		if app := b.stack.Apps[n.app]; app.KV == nil && len(app.Command) > 0 && !n.runsOn(h) && h.same(nearest(n, b.nodes)) {
			return true
		}
	}
	return false
}
