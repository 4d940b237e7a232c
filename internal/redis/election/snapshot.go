package election

import "time"

// Snapshot is what is known after a round of questions.
type Snapshot struct {
	Verdict
	Since time.Time // when the master became the master
	Nodes []Node
	// Sentinels has the master that each Sentinel names, in the order of the configuration,
	// and empty ones for those that only other Sentinels know (see CountedSentinels).
	Sentinels []string
	// Doubted is true when a Sentinel that names the master considers it down, or is
	// failing it over.
	Doubted bool
	// Electing is true when Sentinels voted in an election that may promote another node,
	// or one of them knows that it did.
	Electing bool
	// DownAfter is the time after which the Sentinels consider a silent master down, the
	// longest that one of them has.
	DownAfter time.Duration
	Heard     time.Time // when a node or a Sentinel last replied
	Asked     time.Time // when the round began
	// Found is true once there has been a master.
	Found bool
}

// MasterNode returns what the master says of itself.
func (s Snapshot) MasterNode() Node { return s.Node(s.Master) }

// Node returns what a node says of itself; the zero value for a node that is not known.
func (s Snapshot) Node(addr string) Node {
	for _, n := range s.Nodes {
		if n.Address == addr {
			return n
		}
	}
	return Node{}
}

// Others returns how many other nodes there are: those that could be promoted.
func (s Snapshot) Others() int {
	return max(len(s.Nodes)-1, len(s.MasterNode().Replicas))
}

// Certain reports whether no other node can have been promoted unheard: the Sentinels stand
// by the master, or every other node follows it. A master that is cut off from the majority
// may still have a replica on its side. What that replica confirms is worth nothing when the
// other side has promoted another node.
func (s Snapshot) Certain() bool {
	if s.StoodBy() {
		return true
	}
	followers := 0
	for _, n := range s.Nodes {
		switch {
		case n.Address == s.Master:
		case !n.Answered || n.Master || n.Follows != s.Master:
			return false
		default:
			followers++
		}
	}
	return followers >= s.Others() // also of those that only the master knows
}

// StoodBy reports whether the Sentinels stand by the master: a majority is heard (Decide
// weighs what it says), none of them considers the master down, and none has voted in an
// election whose outcome is unknown. Then no other node was promoted, and none is about to
// be. Without Sentinels none could be.
func (s Snapshot) StoodBy() bool {
	return len(s.Sentinels) == 0 || Majority(s.Sentinels) != "" && !s.Doubted && !s.Electing
}

// InCommon returns the least offset of nodes that all follow a master; 0 if one does not.
func InCommon(nodes []Node, master string) (offset int64) {
	for i, n := range nodes {
		if !n.Answered || n.Master || !n.Linked || n.Follows != master {
			return 0
		}
		if i == 0 || n.Offset < offset {
			offset = n.Offset
		}
	}
	return offset
}
