// Package httpfast reads and writes the plain cases of HTTP/1.1, and takes no memory for a request. request.go
// parses a request that an event loop may serve, and declines every request that two parsers could
// read differently. options.go has the header fields that say how a request is to be carried out.
// response_head.go renders the header of a response with status 200. limits.go has the limits that
// the event loops and the HTTP server share.
//
// Not here: what the options mean (package consistency) and who reads from connections (package web).
package httpfast
