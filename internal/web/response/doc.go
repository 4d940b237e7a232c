// Package response makes the responses of a web node. errors.go maps errors to statuses, the only
// place that does. encode.go renders results of commands as JSON and RESP2, and longbody.go does so
// in pieces while a long response is written. send.go has the header fields that every response has,
// the methods that a route takes, the forms of a result, and what sends JSON and clients' own bytes.
//
// Not here: how a request's options change its response (package consistency).
package response
