package plan

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// redisEnv tells an application's node where Redis is, and the user that it is there;
// nothing when the stack has none. Own is true for Holdfast's own web nodes, which speak
// TLS with Redis and the Sentinels themselves.
//
// Without Sentinels the master never moves, and the way through the balancers, which
// start later, would make a node wait that is ready only with Redis.
func (b builder) redisEnv(n node, as redisUser, own bool) map[string]string {
	if !b.stack.Redis.Enabled {
		return nil
	}
	// What is empty is there so that none of the supervisor's own environment reaches the
	// node.
	env := map[string]string{"REDIS_SENTINELS": "", "REDIS_MASTER_NAME": ""}
	sentinels := of(b.nodes, Sentinel)
	at, encrypted := b.address(b.master()), b.encrypts()
	if len(sentinels) > 0 {
		at, encrypted = b.redisEntryFor(n)
		// A program that knows Sentinels would speak with them in plain.
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

// ProgramURL is REDIS_URL of an application's program where the way to the master is at an
// address (host:port) in plain.
func ProgramURL(app, password, at string) string {
	return redisURL("redis", redisUser{Name: programUserName(app), Password: password}, at)
}

func redisURL(scheme string, as redisUser, at string) string {
	return fmt.Sprintf("%s://%s:%s@%s/%d", scheme, as.Name, as.Password, at, dataDatabase)
}

// redisEntryFor is the balancers' way to the Redis master for a program of a node, and
// whether it is encrypted. That of the node's own host is not: nothing leaves the host
// in plain.
func (b builder) redisEntryFor(n node) (address string, encrypted bool) {
	port := strconv.Itoa(b.facts.Ports[PortRedisMaster])
	host := nearest(n, b.nodes)
	if b.encrypts() && n.on(host) {
		return net.JoinHostPort(loopback, port), false
	}
	return net.JoinHostPort(host.Address, port), b.encrypts()
}

// loopback is where only the host itself reaches a node.
const loopback = "127.0.0.1"

// nearest is the host of the balancers that a node's program reaches Redis
// through: its own, unless that has none.
func nearest(n node, all []node) Place {
	balancers := of(all, Balancer)
	for _, other := range balancers {
		if other.on(n.host) {
			return n.host
		}
	}
	if len(balancers) == 0 {
		return n.host
	}
	return balancers[0].host
}

// calledFromElsewhere reports whether programs of other hosts reach Redis through the
// balancers of a host.
func (b builder) calledFromElsewhere(h Place) bool {
	for _, n := range of(b.nodes, Web) {
		if app := b.stack.Apps[n.app]; app.KV == nil && len(app.Command) > 0 && !n.on(h) && h.same(nearest(n, b.nodes)) {
			return true
		}
	}
	return false
}
