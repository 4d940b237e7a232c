// Package election tells who the master is, and whether another node can have been
// promoted meanwhile, from what the nodes and the Sentinels said in a round of questions.
// Pure: package redis asks, and this package judges.
package election

import (
	"fmt"
	"slices"
	"time"
)

// Evidence is what a round of questions brought to light.
type Evidence struct {
	Current   string // the master so far; empty: there is none
	Nodes     []Node
	Sentinels []string // the master that each Sentinel names; empty: none, or no reply
	// NamedSince is the round in which the Sentinels' majority began to name the master
	// that it names now.
	NamedSince uint64
	// Electing is true while there is an election whose outcome the Sentinels' majority has
	// not told.
	Electing bool
}

// Node is what a node says of its role (ROLE).
type Node struct {
	Address  string
	Answered bool
	Err      error // why it did not reply
	// SilentAt is when it was last silent for as long as a slow command would make it.
	// Unanswered is when the first of the rounds began that it has not replied to; zero: it
	// has replied in the last one.
	SilentAt, Unanswered time.Time
	Master               bool
	// Since is the round in which this process saw the node turn from replica to master.
	// 0: it is no master, or it was one already when this process first asked it.
	Since uint64
	// Follows is the master that a replica names. Linked is true while the replica has a
	// connection to it.
	Follows string
	Linked  bool
	// Offset is the node's replication offset. Replicas are those that a master has online,
	// with the offset that each has acknowledged.
	Offset   int64
	Replicas []Replica
}

// Replica is an online replica as its master sees it.
type Replica struct {
	Address string
	Offset  int64
}

// Has reports whether a replica is online at this master.
func (n Node) Has(replica string) bool {
	return slices.ContainsFunc(n.Replicas, func(r Replica) bool { return r.Address == replica })
}

// Verdict is who the master is, and why, or why there is none.
type Verdict struct {
	Master string
	Why    string
}

// Decide returns who the master is. The master is a node that claims to be one (ROLE),
// unless newer evidence contradicts it:
//   - Between several claims the Sentinels' majority decides.
//   - A node that this process saw turn master was promoted by a majority of Sentinels. They
//     announce it about a second later, so it is believed also while the majority still
//     names another one.
//   - A claim that the majority contradicts, and newly so, is that of an old master. It is
//     believed only if the node that they name follows it.
//   - A node that they name may also be an old master that came back: another one was
//     promoted after they began to name it, and is silent now. It is not believed until that
//     election is over.
//   - Where no majority is heard, the master so far remains the master. A new one needs to
//     have been promoted while this process looked, or to have a replica. Neither is enough
//     when another node, which is silent now, was promoted later.
func Decide(v Evidence) Verdict {
	var claims []Node
	for _, n := range v.Nodes {
		if n.Answered && n.Master {
			claims = append(claims, n)
		}
	}
	named := Majority(v.Sentinels)
	switch len(claims) {
	case 0:
		return Verdict{Why: "no node says that it is the master"}
	case 1:
	default:
		return between(claims, named)
	}
	claim := claims[0]
	later, since := promotedLater(v.Nodes, claim)
	switch {
	case len(v.Sentinels) == 0:
		return Verdict{claim.Address, "it is the only node"}
	case named == claim.Address && later != "" && since > v.NamedSince && v.Electing:
		return Verdict{Why: fmt.Sprintf("the Sentinels name %s, but %s, which does not answer, was promoted since", claim.Address, later)}
	case named == claim.Address:
		return Verdict{claim.Address, "the node and the Sentinels agree"}
	case named == "" && claim.Address == v.Current:
		return Verdict{claim.Address, "it was the master and no majority of Sentinels says otherwise"}
	case named == "" && later != "":
		return Verdict{Why: fmt.Sprintf("%s says that it is the master, but %s, which does not answer, was promoted after it", claim.Address, later)}
	case named == "" && claim.Since > 0:
		return Verdict{claim.Address, "it was promoted"}
	case named == "" && followed(v.Nodes, claim.Address):
		return Verdict{claim.Address, "a replica follows it"}
	case named == "":
		return Verdict{Why: fmt.Sprintf("only %s itself says that it is the master, and no majority of Sentinels was heard", claim.Address)}
	case claim.Since > v.NamedSince:
		return Verdict{claim.Address, "it was promoted; the Sentinels have not said so yet"}
	}
	for _, n := range v.Nodes {
		if n.Address == named && n.Answered && !n.Master && n.Follows == claim.Address {
			return Verdict{claim.Address, fmt.Sprintf("%s, whom the Sentinels name, follows it", named)}
		}
	}
	return Verdict{Why: fmt.Sprintf("%s says that it is the master, but the Sentinels name %s", claim.Address, named)}
}

// promotedLater returns the last node that was promoted after another one and is silent
// now, and the round of its promotion; empty: there is none. A node that replies either is
// no master any more, or has a claim of its own.
func promotedLater(nodes []Node, than Node) (addr string, since uint64) {
	since = than.Since
	for _, n := range nodes {
		if !n.Answered && n.Since > since {
			addr, since = n.Address, n.Since
		}
	}
	return addr, since
}

// between decides among several claims. The master is the node that the Sentinels'
// majority names, unless another one was promoted later.
func between(claims []Node, named string) Verdict {
	for _, c := range claims {
		if c.Address != named {
			continue
		}
		for _, other := range claims {
			if other.Since > c.Since {
				return Verdict{Why: fmt.Sprintf("%s was promoted, but the Sentinels still name %s", other.Address, named)}
			}
		}
		return Verdict{named, "the Sentinels name it among several that claim it"}
	}
	return Verdict{Why: fmt.Sprintf("%d nodes say that they are the master, and no majority of Sentinels names one of them", len(claims))}
}

// Majority returns the master that more than half of all Sentinels name; empty: there is
// none. A silent Sentinel names no master, and counts among all.
func Majority(sentinels []string) string {
	votes := map[string]int{}
	for _, named := range sentinels {
		votes[named]++
		if named != "" && votes[named] > len(sentinels)/2 {
			return named
		}
	}
	return ""
}

// MaxSentinels is more than any stack has. A Sentinel that tells of more is not believed.
const MaxSentinels = 1000

// CountedSentinels returns the number of Sentinels of which a majority has to name the
// master. A Sentinel promotes a node with the votes of a majority of the k Sentinels that it
// knows. During a change these may be more than the n of the configuration. So at least half
// of k have to stand by the master: then each majority of the k has one of them in it.
func CountedSentinels(words []SentinelReply) int {
	n, k := len(words), 0
	for _, w := range words {
		k = max(k, w.Knows)
	}
	if n == 0 {
		return 0
	}
	return max(n, 2*((k+1)/2-1))
}

// followed reports whether a replica has a connection to that master.
func followed(nodes []Node, master string) bool {
	for _, n := range nodes {
		if n.Answered && !n.Master && n.Linked && n.Follows == master {
			return true
		}
	}
	return false
}
