// Package token holds who may do what: the tokens that a web node knows, and
// the rights that each gives. It knows nothing of HTTP.
package token

// Rights are what a token allows.
type Rights struct{}

// Set are all tokens that a node knows.
type Set struct{}
