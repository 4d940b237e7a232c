// Package agree is what the hosts of a stack agree on: a small set of named
// documents that is the same on all of them, and which host leads. It is raft
// (github.com/hashicorp/raft) behind an interface of Holdfast's own: nobody
// outside sees a type of that library.
//
// A member is one host's part in it. Documents are read and written at the
// member that leads; any other member can be asked for what it has, which may be
// old. What a document means is not known here, nor is TLS: the caller brings
// the connections.
//
// The rules that the rest of the program relies on:
//
//   - A write that was acknowledged is on the disks of a majority and is never
//     lost. One that ended in ErrUnknownOutcome may have happened.
//   - A write carries the term of its leader. It counts only if the log takes it
//     in that term, so a leader that was replaced cannot write any more,
//     whatever it believes.
//   - A member without a majority changes nothing. What runs goes on.
//   - Each directory is one incarnation of a member, with an identity of its own
//     that the others address. A member whose disk was emptied is a new one: it
//     has no vote under its old identity and has to be added anew.
//   - A member whose disk fails stops (Member.Done) and votes no more. The
//     others go on.
package agree
