package cluster

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/redis/hashslot"
	"holdfast/internal/redis/resp"
)

// This is what the answers of a Redis Cluster's nodes tell without asking anybody: who owns
// each slot.

// clusterNode is one node, as one node of the cluster sees it.
type clusterNode struct {
	id, addr string
	myself   bool // it is the one that was asked
	master   bool
	follows  string // the id of a replica's master
	down     bool   // it failed, or is suspected to have failed
	// epoch is the configuration epoch of its claim to its slots: each failover and each move of
	// a slot gets a higher one.
	epoch int64
	slots []slotRange
	// moving are slots on their way from or to it, which only the node itself tells.
	moving []int
}

type slotRange struct{ first, last int }

// parseClusterNodes reads the answer of the node at an address to CLUSTER NODES (see the manual).
// Of the commands that tell who owns which slot, only this one tells the epochs, without which old
// news cannot be told from new.
func parseClusterNodes(text, asked string) ([]clusterNode, error) {
	var nodes []clusterNode
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) < 8 {
			return nil, fmt.Errorf("CLUSTER NODES at %s: a line of %d fields", asked, len(f))
		}
		flags := strings.Split(f[2], ",")
		has := func(flag string) bool { return slices.Contains(flags, flag) }
		if has("handshake") || has("noaddr") {
			continue // it is no member yet, or it cannot be reached
		}
		n := clusterNode{
			id: f[0], myself: has("myself"), master: has("master"), follows: f[3], epoch: resp.Int(f[6]),
			down: has("fail") || has("fail?"),
		}
		addr, _, _ := strings.Cut(f[1], "@") // the bus' port, and names, follow
		host, port, err := splitLast(addr)
		if err != nil {
			return nil, fmt.Errorf("CLUSTER NODES at %s: %q is no address", asked, f[1])
		}
		if host == "" { // it does not know its own address yet: the one we asked
			if host, _, err = net.SplitHostPort(asked); err != nil {
				return nil, err
			}
		}
		n.addr = net.JoinHostPort(host, port)
		for _, word := range f[8:] {
			if strings.HasPrefix(word, "[") { // a slot on its way, which has not moved yet
				slot, _, _ := strings.Cut(word[1:], "-")
				if on, err := strconv.Atoi(slot); err == nil {
					n.moving = append(n.moving, on)
				}
				continue
			}
			first, last, ok := strings.Cut(word, "-")
			if !ok {
				last = first
			}
			a, err1 := strconv.Atoi(first)
			b, err2 := strconv.Atoi(last)
			if err1 != nil || err2 != nil || a < 0 || b < a || b >= hashslot.Count {
				return nil, fmt.Errorf("CLUSTER NODES at %s: %q are no slots", asked, word)
			}
			n.slots = append(n.slots, slotRange{a, b})
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// splitLast splits host and port, where an IPv6 address has no brackets.
func splitLast(addr string) (host, port string, err error) {
	colon := strings.LastIndexByte(addr, ':')
	if colon < 0 {
		return "", "", errors.New("no port")
	}
	return addr[:colon], addr[colon+1:], nil
}

// shard is a master that owns slots, and its replicas.
type shard struct {
	id, master string
	replicas   []string // those that are up
}

// slotMap has the owner of each slot.
type slotMap struct {
	shards []shard // by id
	owner  [hashslot.Count]int16
	// unowned is how many slots no node owns.
	unowned int
}

// at returns the shard that owns a slot; nil: no node does.
func (m *slotMap) at(slot int) *shard {
	if i := m.owner[slot]; i >= 0 {
		return &m.shards[i]
	}
	return nil
}

// mergeViews makes one map of what several nodes see. Of two claims to a slot the one of the higher
// epoch is newer, which is how the nodes themselves settle it (specification, "Hash slots
// configuration propagation"). So a node that was cut off is outvoted, and need not be recognized.
// What a node is, it knows best itself.
func mergeViews(views ...[]clusterNode) *slotMap {
	type claim struct {
		epoch int64
		owner string
	}
	var claims [hashslot.Count]claim
	known := map[string]clusterNode{}
	for _, view := range views {
		for _, n := range view {
			old, ok := known[n.id]
			down := !n.myself && !old.myself && (n.down || old.down) // who answers is up
			if !ok || !old.myself && (n.myself || n.epoch > old.epoch) {
				old = n
			}
			old.down = down
			known[n.id] = old
			for _, r := range n.slots {
				for slot := r.first; slot <= r.last; slot++ {
					if c := &claims[slot]; c.owner == "" || n.epoch > c.epoch {
						*c = claim{n.epoch, n.id}
					}
				}
			}
		}
	}
	m := &slotMap{}
	index := map[string]int16{}
	for _, c := range claims {
		if _, ok := index[c.owner]; c.owner != "" && !ok {
			index[c.owner] = 0
			m.shards = append(m.shards, shard{id: c.owner, master: known[c.owner].addr})
		}
	}
	slices.SortFunc(m.shards, func(a, b shard) int { return strings.Compare(a.id, b.id) })
	for i := range m.shards {
		s := &m.shards[i]
		index[s.id] = int16(i)
		for _, n := range known {
			if !n.master && !n.down && n.follows == s.id {
				s.replicas = append(s.replicas, n.addr)
			}
		}
		slices.Sort(s.replicas)
	}
	for slot, c := range claims {
		if c.owner == "" {
			m.owner[slot] = -1
			m.unowned++
		} else {
			m.owner[slot] = index[c.owner]
		}
	}
	return m
}
