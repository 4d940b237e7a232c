// Package identity is how the hosts of a stack recognize each other: the stack's certificate
// authority, the certificate of each host, what a TLS peer has to show, and how a new host
// joins. The list of hosts, and the storage for what they share, belong to the caller.
//
//   - found.go: the first start of a stack.
//   - authority.go, credentials.go, peer.go: certificates and their owners. derive.go: an
//     authority derived from a secret.
//   - trust.go, explain.go: mutual TLS, and what its errors mean.
//   - files.go: the files of a host. keeper.go: the renewal of a certificate.
//   - token.go, invitation.go: what a new host is given, and what the stack keeps about it.
//   - join.go, admit.go, server.go, wire.go: the exchange between a new host and a member.
//   - bundle.go: a token as a file that is carried to the new host.
//   - pass.go: what makes a container a host again each time that it has lost its state.
//
// A host combines the parts like this:
//
//	keeper, err := NewKeeper(dir, renew, time.Now)    // after Found or Join; then go keeper.Run
//	trust, err := NewTrust(authority, removed, time.Now)
//	settings := AdmitJoins(trust.Server(keeper, "h2"), keeper)
//	server := NewServer(SplitJoins(members, joins.Handler()), settings, log)
//
// Functions take the time as an argument, and a reader of random bytes if they need one. Keys
// are the exception: since Go 1.26 crypto/ecdsa always uses the system's source.
package identity
