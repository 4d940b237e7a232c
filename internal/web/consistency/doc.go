// Package consistency gives a request's options their meaning: where it reads from and how old the
// data may be, when a write is acknowledged, what makes a write happen once, and the form of the
// response. It refuses a write that comes so late that an earlier try may have happened, and tells in
// the response's header what became of the request. It also hands the span of a request's trace on.
//
// Not here: parsing the header (package httpfast) and keeping the promises (package redis).
package consistency
