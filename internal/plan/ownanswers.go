package plan

import (
	"fmt"
	"strconv"
	"strings"

	"holdfast/internal/stack"
)

// HAProxy answers some requests by itself (manual, section 4.2, "http-error").
// What it can say of one differs by the kind of the application: a kv's request
// is one command or some, known to have been carried out or not, and may be
// sent again by its key; what a program of the user's does with a request, and
// when, nobody here knows. The form is what the client asks for in Accept: HTML for
// browsers, JSON for programs. Where it asks for neither, clients of a kv get JSON, as in
// all of its answers; others get what they would get of HAProxy or any other proxy, HTML.

// ownAnswers are a balancer's own answers to the requests of one application.
type ownAnswers struct {
	Node   string            // the one that answers
	HTML   bool              // the form for clients that ask for none
	Pages  map[string]string // the operator's own, by status; see stack.Entry.Errors
	Errors []ownAnswer
}

// Type is the Content-Type for clients that ask for none.
func (a ownAnswers) Type() string {
	if a.HTML {
		return htmlType
	}
	return jsonType
}

// Format is an answer with these words, as a format of HAProxy's that it fills in when it
// answers. What a client asks for is in txn.html by then, if it asks.
func (a ownAnswers) Format(status int, words string) string {
	html := a.asked()
	if page, own := a.Pages[strconv.Itoa(status)]; own {
		return pageFormat(html, page, words)
	}
	return fmt.Sprintf(`%%[%s,iif(<html><body><h1>,{\"error\":\")]%s%%[%s,iif(</h1></body></html>,\"})]`, html, words, html)
}

// pageFormat is a page of the operator's, and for who does not ask for HTML the words. Line
// ends stand for themselves, since HAProxy escapes what an expression gives: after JSON they
// mean nothing.
func pageFormat(html, page, words string) string {
	lines := strings.Split(page, "\n")
	json := fmt.Sprintf(`{"error":"%s"}`, words)
	for i, line := range lines {
		lines[i] = fmt.Sprintf("%%[%s,iif(%s,%s),url_dec]", html, stack.EscapePage(line), stack.EscapePage(json))
		json = ""
	}
	return strings.Join(lines, "\n")
}

// asked is whether the answer is HTML, as an expression of HAProxy's.
func (a ownAnswers) asked() string {
	if a.HTML {
		return "var(txn.html,1)"
	}
	return "var(txn.html,0)"
}

const (
	htmlType = "text/html"
	jsonType = "application/json"
)

// ownAnswer is one of HAProxy's own answers to a request that it could read.
type ownAnswer struct {
	Status int
	Words  string
	Retry  bool
}

// answersFor are a balancer's answers for a kind of application. Where its
// requests may wait for a place (limited), a client that closes its side of the
// connection is taken for one that has gone, whether its request still waits or
// not: HAProxy's 400 is for such a client, then, and becomes a 504.
func answersFor(balancer string, kind stack.Kind, limited bool, pages map[string]string) ownAnswers {
	answers := ownAnswers{Node: balancer, HTML: true, Errors: programAnswers, Pages: pages}
	if kind == stack.KV {
		answers.HTML, answers.Errors = false, kvAnswers
	}
	out := make([]ownAnswer, len(answers.Errors))
	for i, a := range answers.Errors {
		if a.Status == 400 && limited {
			a.Words = endedEarlyWords
		}
		out[i] = a
	}
	answers.Errors = out
	return answers
}

// unknownWords are said of a kv's request that a node may have carried out.
const unknownWords = "The outcome is unknown: a web node took the request and did not answer. A write may or may not have happened. To be able to repeat a write safely, send an Idempotency-Key header."

// endedEarlyWords are said to a client that closed its side of the connection
// before it had its answer.
const endedEarlyWords = "The client closed its side of the connection before it had the answer. Whether the request was carried out is not known."

// The words, without quotes of either kind, without backslashes and without
// what HTML, or a format of HAProxy's (a percent sign), reads as its own.
var kvAnswers = []ownAnswer{
	{400, "The request is not valid HTTP, or its head is too large for the balancer; it was not executed.", false},
	{403, "The balancer refused the request; it was not executed.", false},
	{408, "The request took too long to arrive; it was not executed.", false},
	{413, "The request is too large; it was not executed.", false},
	{429, "Too many connections of this client address are open; this request was not executed. Close those that are not needed, or try again in a moment.", true},
	{500, "The balancer failed. The outcome is unknown: a write may or may not have happened.", false},
	{501, "The balancer does not know the method; the request was not executed.", false},
	{502, unknownWords, false},
	{503, "No web node was free to take the request. With status 503 the request was not executed; with 504 its outcome is unknown: a write may or may not have happened.", true},
	{504, unknownWords, false},
}

// A program gets a request as it comes, so that one which ends in the midst of
// its body has reached the program. The 503 becomes a 504 where a server took an
// earlier try, and keeps its body: the words are for both.
var programAnswers = []ownAnswer{
	{400, "The request is not valid HTTP, or its head is too large.", false},
	{403, "The balancer refused the request.", false},
	{408, "The request took too long to arrive.", false},
	{413, "The request is too large.", false},
	{429, "Too many connections of this client address are open. Close those that are not needed, or try again in a moment.", true},
	{500, "The balancer failed. Whether the request was carried out is not known.", false},
	{501, "The balancer does not know the method of the request.", false},
	{502, "The server took the request and ended without a valid answer. Whether it was carried out is not known.", false},
	{503, "No server was free to take the request. With status 503 it reached none; with 504 a server may have taken it before, and whether it was carried out is not known.", true},
	{504, "No server answered in time. Whether the request was carried out is not known.", false},
}
