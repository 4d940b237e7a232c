// Package identity is about who the hosts of a stack are to each other: the stack's
// certificate authority, the certificate of each host, what a TLS peer has to show, and
// how a new host joins. Which hosts there are, and where the state that they share is
// kept, is the caller's concern.
//
//   - found.go: the first start of a stack.
//   - authority.go, credentials.go, peer.go: certificates and whom they are for.
//   - trust.go, explain.go: mutual TLS, and what its errors mean.
//   - files.go: the files of a host. keeper.go: a certificate that renews itself.
//   - token.go, invitation.go: what a new host is given, and what the stack keeps of it.
//   - join.go, admit.go, server.go, wire.go: the exchange between the new host and a member.
//   - bundle.go: a token as a file that is carried to the new host.
//   - pass.go: what makes a container a host again and again.
//
// A host puts the parts together so:
//
//	keeper, err := NewKeeper(dir, renew, time.Now)    // after Found or Join; then go keeper.Run
//	trust, err := NewTrust(authority, removed, time.Now)
//	settings := AdmitJoins(trust.Server(keeper, "h2"), keeper)
//	server := NewServer(SplitJoins(members, joins.Handler()), settings, log)
//
// Functions take the time, and where they need chance a reader of random bytes. Keys are
// the exception: since Go 1.26 crypto/ecdsa uses the system's source, whatever it is given.
package identity
