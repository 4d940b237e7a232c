// Package agree keeps what the hosts of a stack agree on: a small set of named
// documents that is the same on all hosts, and which host leads. It uses raft
// (github.com/hashicorp/raft); no type of that library is visible outside.
//
// A Member is one host's part in the agreement (member.go, members.go, lead.go).
// Documents are read and written at the leader (write.go); every other member can
// return its own copy, which may be old. Raft's log goes through documents.go to
// the documents, through store.go and raftstore.go to the disk, and through
// streams.go to the other members. The meaning of a document is not known here,
// and neither is TLS: the caller provides the connections.
//
// The rest of the program relies on these rules:
//
//   - A write that was acknowledged is on the disks of a majority and is never
//     lost. One that ended in ErrUnknownOutcome may have happened.
//   - A write carries the term of its leader and counts only if the log takes it
//     in that term. So a leader that was replaced cannot write any more,
//     whatever it believes.
//   - A member without a majority changes nothing. What runs goes on.
//   - Each directory is one incarnation of a member, with an identity of its own
//     that the others address. A member whose disk was emptied is a new
//     incarnation: it has no vote and has to be added anew.
//   - A member whose disk fails stops (Member.Done) and votes no more. The
//     others go on.
package agree
