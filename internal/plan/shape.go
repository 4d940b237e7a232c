package plan

import (
	"fmt"

	"holdfast/internal/stack"
)

// Advice is a remark on something unusual in how a stack is spread over its hosts.
type Advice struct {
	// Key is the key of the stack file that it is about, such as redis.replicas.
	Key  string `json:"key"`
	What string `json:"what"`
}

// Shape returns the advice about the hosts as a whole. For each single host, see Losses.
func Shape(s stack.Stack, placed Placement) (all []Advice) {
	add := func(key, what string, args ...any) { all = append(all, Advice{key, fmt.Sprintf(what, args...)}) }
	switch len(s.Hosts) {
	case 0:
		return nil
	case 1:
		add("hosts", "the stack ends with its only host: add two more, one of which may be a witness (only: [sentinel])")
		return all
	}

	redis := s.Redis
	voters, holders := len(s.HostsFor(stack.OfSentinels, "")), len(s.HostsFor(stack.OfRedis, ""))
	if redis.Enabled && redis.Sentinels > 1 && voters == 2 && holders > 1 {
		if redis.Sentinels%2 == 0 {
			add("hosts", "%d Sentinels on two hosts: each has half of them, and nobody fails over when either is lost; add a third host with only: [sentinel], and set redis.sentinels: %d", redis.Sentinels, redis.Sentinels+1)
		} else {
			add("hosts", "two hosts without a witness: one has the majority of the Sentinels, and nobody fails over when it is lost; add a third host with only: [sentinel]")
		}
	}

	if most := max(minRedisNodes(s), holders); redis.Enabled && holders > 1 && redis.Replicas+1 > most {
		add("redis.replicas", "%d redis nodes on %d hosts: %d replicas bear the loss of any host, too, with less memory", redis.Replicas+1, holders, most-1)
	}

	used := map[string]bool{}
	for _, host := range placed {
		used[host] = true
	}

	for _, h := range s.Hosts {
		if !used[h.Name] {
			add("hosts."+h.Name, "no node runs there: have more nodes of a kind that it takes, or remove the host")
		}
	}
	return all
}
