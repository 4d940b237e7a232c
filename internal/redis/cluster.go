package redis

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
)

// Of a Redis Cluster, this is what can be said without asking anybody: which
// slot a key is in, and, from the answers of its nodes, who owns each slot.

// slotCount is how many hash slots a cluster has (manual, "Redis cluster
// specification").
const slotCount = 16384

// slotOf is the slot of a key: CRC16 of the key, or of its hash tag, the part
// between the first { and the first } behind it, if there is any.
func slotOf(key string) int {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if length := strings.IndexByte(key[open+1:], '}'); length > 0 {
			key = key[open+1 : open+1+length]
		}
	}
	crc := uint16(0)
	for i := range len(key) {
		crc = crc<<8 ^ crc16[byte(crc>>8)^key[i]]
	}
	return int(crc % slotCount)
}

// crc16 is the table of the CRC that the specification names: polynomial
// 0x1021, most significant bit first.
var crc16 = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()

// anySlot is the slot of what names no key.
const anySlot = -1

var (
	// In Redis' own words.
	errCrossSlot   = outcome.RedisError("CROSSSLOT Keys in request don't hash to the same slot")
	errKeysUnknown = errors.New("which keys the command names cannot be told, so neither can be where they are")
)

// slotOfAll is the one slot of all keys; anySlot when there is none.
func slotOfAll(keys []string) (int, error) {
	slot := anySlot
	for _, key := range keys {
		s := slotOf(key)
		if slot != anySlot && s != slot {
			return 0, errCrossSlot
		}
		slot = s
	}
	return slot, nil
}

// slotFor is the one slot of a command's keys; anySlot when it names none.
func slotFor(s *Spec, cmd Command) (int, error) {
	keys, ok := s.Keys(cmd)
	if !ok {
		return 0, errKeysUnknown
	}
	return slotOfAll(keys)
}

// clusterNode is one node, as one node of the cluster sees it.
type clusterNode struct {
	id, addr string
	myself   bool // it is the one that was asked
	master   bool
	follows  string // the id of a replica's master
	down     bool   // said to have failed, or suspected
	// epoch is the configuration epoch of its claim to its slots: each
	// failover and each move of a slot is given a higher one.
	epoch int64
	slots []slotRange
	// moving are slots on their way from or to it, which only itself tells.
	moving []int
}

type slotRange struct{ first, last int }

// parseClusterNodes reads the answer to CLUSTER NODES (manual, there) of the
// node at that address. Of the commands that tell who owns which slot this one
// alone tells the epochs, without which old news cannot be told from new.
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
			continue // not a member yet, or not to be reached
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
			if strings.HasPrefix(word, "[") { // a slot on its way: it is where it is
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
			if err1 != nil || err2 != nil || a < 0 || b < a || b >= slotCount {
				return nil, fmt.Errorf("CLUSTER NODES at %s: %q are no slots", asked, word)
			}
			n.slots = append(n.slots, slotRange{a, b})
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// splitLast parts host and port; an IPv6 address stands without brackets here.
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

// slotMap says who owns each slot.
type slotMap struct {
	shards []shard // by id
	owner  [slotCount]int16
	// unowned is how many slots nobody owns.
	unowned int
}

// at is the shard that owns a slot; nil when nobody does.
func (m *slotMap) at(slot int) *shard {
	if i := m.owner[slot]; i >= 0 {
		return &m.shards[i]
	}
	return nil
}

// mergeViews makes one map of what several nodes see. Of two claims to a slot
// the one of the higher epoch is newer, which is how the nodes themselves
// settle it (specification, "Hash slots configuration propagation"); a node
// that was cut off is outvoted without being known for it. What a node is, it
// knows best itself.
func mergeViews(views ...[]clusterNode) *slotMap {
	type claim struct {
		epoch int64
		owner string
	}
	var claims [slotCount]claim
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
