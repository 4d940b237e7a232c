package redis

import (
	"fmt"
	"slices"
	"time"
)

// view is what one round of questions brought to light.
type view struct {
	current   string // the master so far; empty: none
	nodes     []nodeView
	sentinels []string // whom each Sentinel names; empty: no answer or nobody
	// namedSince is the round in which the Sentinels' majority began to name
	// whom it names now.
	namedSince uint64
	// electing: there is an election of which the Sentinels' majority has not told the outcome.
	electing bool
}

// nodeView is a node's own word about its role.
type nodeView struct {
	addr     string
	answered bool
	err      error // why it did not answer
	// silentAt is when it was last without an answer for silentRound. unanswered is when
	// the first round began that it has not answered; zero: it has answered the last one.
	silentAt, unanswered time.Time
	master               bool
	// since is the round in which this process saw the node turn from replica
	// to master; 0 when it is no master or has been one as long as we look.
	since uint64
	// follows is the master that a replica names; linked says that it has a
	// connection to it.
	follows string
	linked  bool
	// offset is how far its replication stream is here; replicas are a master's:
	// those online, with what each has acknowledged.
	offset   int64
	replicas []replicaView
}

// replicaView is an online replica as its master sees it.
type replicaView struct {
	addr   string
	offset int64
}

// has says that a replica is online at this master.
func (n nodeView) has(replica string) bool {
	return slices.ContainsFunc(n.replicas, func(r replicaView) bool { return r.addr == replica })
}

// verdict is who the master is, and why, or why nobody is.
type verdict struct {
	master string
	why    string
}

// decide says who the master is. A node has to claim it (ROLE), and nothing
// that is newer may contradict it:
//   - The Sentinels' majority settles it between several claims.
//   - A node that turned master before our eyes was promoted by a majority of
//     Sentinels, whose own announcement comes about a second later; it is
//     believed against a majority that has not changed its word since.
//   - A claim that the majority contradicts with newer word is an old master's;
//     it is believed only if the named node itself follows it.
//   - One that they name while another one, which is silent now, was promoted after they
//     began to name it, is an old master that came back: until that election is over.
//   - With no majority to be heard, the master so far remains it, and a new one
//     needs to have been promoted before our eyes or to have a replica. Neither is
//     enough for a node when another one was promoted after it, which is silent now.
func decide(v view) verdict {
	var claims []nodeView
	for _, n := range v.nodes {
		if n.answered && n.master {
			claims = append(claims, n)
		}
	}
	named := majority(v.sentinels)
	switch len(claims) {
	case 0:
		return verdict{why: "no node says that it is the master"}
	case 1:
	default:
		return between(claims, named)
	}
	claim := claims[0]
	later, since := promotedLater(v.nodes, claim)
	switch {
	case len(v.sentinels) == 0:
		return verdict{claim.addr, "it is the only node"}
	case named == claim.addr && later != "" && since > v.namedSince && v.electing:
		return verdict{why: fmt.Sprintf("the Sentinels name %s, but %s, which does not answer, was promoted since", claim.addr, later)}
	case named == claim.addr:
		return verdict{claim.addr, "the node and the Sentinels agree"}
	case named == "" && claim.addr == v.current:
		return verdict{claim.addr, "it was the master and no majority of Sentinels says otherwise"}
	case named == "" && later != "":
		return verdict{why: fmt.Sprintf("%s says that it is the master, but %s, which does not answer, was promoted after it", claim.addr, later)}
	case named == "" && claim.since > 0:
		return verdict{claim.addr, "it was promoted"}
	case named == "" && followed(v.nodes, claim.addr):
		return verdict{claim.addr, "a replica follows it"}
	case named == "":
		return verdict{why: fmt.Sprintf("only %s itself says that it is the master, and no majority of Sentinels was heard", claim.addr)}
	case claim.since > v.namedSince:
		return verdict{claim.addr, "it was promoted; the Sentinels have not said so yet"}
	}
	for _, n := range v.nodes {
		if n.addr == named && n.answered && !n.master && n.follows == claim.addr {
			return verdict{claim.addr, fmt.Sprintf("%s, whom the Sentinels name, follows it", named)}
		}
	}
	return verdict{why: fmt.Sprintf("%s says that it is the master, but the Sentinels name %s", claim.addr, named)}
}

// promotedLater is the last node that was promoted after another one, and is silent now,
// and the round in which it was; empty: there is none. A node that answers is no master
// any more, or claims it as well.
func promotedLater(nodes []nodeView, than nodeView) (addr string, since uint64) {
	since = than.since
	for _, n := range nodes {
		if !n.answered && n.since > since {
			addr, since = n.addr, n.since
		}
	}
	return addr, since
}

// between settles several claims: the one that the Sentinels' majority names,
// unless another was promoted later.
func between(claims []nodeView, named string) verdict {
	for _, c := range claims {
		if c.addr != named {
			continue
		}
		for _, other := range claims {
			if other.since > c.since {
				return verdict{why: fmt.Sprintf("%s was promoted, but the Sentinels still name %s", other.addr, named)}
			}
		}
		return verdict{named, "the Sentinels name it among several that claim it"}
	}
	return verdict{why: fmt.Sprintf("%d nodes say that they are the master, and no majority of Sentinels names one of them", len(claims))}
}

// majority is whom more than half of all Sentinels name; silent ones count as
// against.
func majority(sentinels []string) string {
	votes := map[string]int{}
	for _, named := range sentinels {
		votes[named]++
		if named != "" && votes[named] > len(sentinels)/2 {
			return named
		}
	}
	return ""
}

// maxSentinels is more than a stack has: what a Sentinel tells beyond it is not believed.
const maxSentinels = 1000

// countedSentinels is of how many Sentinels a majority has to speak. A Sentinel promotes a node
// with the votes of a majority of those that it knows, k, which may be more than the n of the
// configuration, as in the midst of a change. So many of the configuration's have to stand by the
// master that one of them is in any k/2+1 of those k: half of k.
func countedSentinels(words []sentinelWord) int {
	n, k := len(words), 0
	for _, w := range words {
		k = max(k, w.knows)
	}
	if n == 0 {
		return 0
	}
	return max(n, 2*((k+1)/2-1))
}

// others is how many other nodes there are: who could be promoted.
func (s snapshot) others() int {
	return max(len(s.nodes)-1, len(s.node().replicas))
}

// certain says that no other node can have been promoted unheard: the Sentinels stand by
// the master, or every other node itself follows it. A master cut off from the majority
// may have a replica on its side, whose confirmation is worth nothing when the other side
// promoted another.
func (s snapshot) certain() bool {
	if s.stoodBy() {
		return true
	}
	followers := 0
	for _, n := range s.nodes {
		switch {
		case n.addr == s.master:
		case !n.answered || n.master || n.follows != s.master:
			return false
		default:
			followers++
		}
	}
	return followers >= s.others() // also of those that only the master knows
}

// stoodBy reports whether the Sentinels stand by the master: a majority speaks (decide
// weighs what it says), none of them holds the master for down, and none has voted in an
// election of which nobody knows the outcome. Then nobody else was promoted, nor is about
// to be. Without Sentinels nobody could be.
func (s snapshot) stoodBy() bool {
	return len(s.sentinels) == 0 || majority(s.sentinels) != "" && !s.doubted && !s.electing
}

func followed(nodes []nodeView, master string) bool {
	for _, n := range nodes {
		if n.answered && !n.master && n.linked && n.follows == master {
			return true
		}
	}
	return false
}
