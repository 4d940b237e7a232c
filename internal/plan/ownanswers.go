package plan

import (
	"fmt"
	"strconv"
	"strings"

	"holdfast/internal/stack"
)

// HAProxy answers some requests by itself (manual, section 4.2, "http-error").
//
// What such an answer can say depends on the kind of the application. A request to a kv is one
// command or several, which are known to have been executed or not, and it can be repeated safely
// with an idempotency key. What a user's program does with a request, and when, is not known here.
//
// The Accept header decides about the form: HTML for browsers, JSON for programs. A client that
// asks for neither gets JSON from a kv, as in all of its answers, and from other applications HTML,
// as from HAProxy or any other proxy.

// ownAnswers are a balancer's own answers to the requests of one application.
type ownAnswers struct {
	Node   string            // the balancer that answers
	HTML   bool              // the form for clients that ask for none is HTML
	Pages  map[string]string // the operator's own pages, by status; see stack.Entry.Errors
	Errors []ownAnswer
}

// Type returns the Content-Type for clients that ask for none.
func (a ownAnswers) Type() string {
	if a.HTML {
		return htmlType
	}
	return jsonType
}

// Format returns an answer with these words as a format string of HAProxy, which fills it in when
// it answers. The variable txn.html then has what the client asked for, if it asked.
func (a ownAnswers) Format(status int, words string) string {
	html := a.asked()
	if page, own := a.Pages[strconv.Itoa(status)]; own {
		return pageFormat(html, page, words)
	}
	return fmt.Sprintf(`%%[%s,iif(<html><body><h1>,{\"error\":\")]%s%%[%s,iif(</h1></body></html>,\"})]`, html, words, html)
}

// pageFormat returns a page of the operator's as a format string of HAProxy; clients that do not
// ask for HTML get the words instead. The line ends stay outside the expressions, because HAProxy
// escapes what an expression returns. Behind the JSON they do no harm.
func pageFormat(html, page, words string) string {
	lines := strings.Split(page, "\n")
	json := fmt.Sprintf(`{"error":"%s"}`, words)
	for i, line := range lines {
		lines[i] = fmt.Sprintf("%%[%s,iif(%s,%s),url_dec]", html, stack.EscapePage(line), stack.EscapePage(json))
		json = ""
	}
	return strings.Join(lines, "\n")
}

// asked returns an expression of HAProxy that is true where the answer is HTML.
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

// answersFor returns a balancer's answers for a kind of application. limited is true where requests
// may wait for a place. There HAProxy takes a client that closes its side of the connection for one
// that has gone, even if its request no longer waits. HAProxy's 400 is then for such a client, and
// is sent as a 504.
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

// unknownWords is the text for a kv's request that a node may have executed.
const unknownWords = "The outcome is unknown: a web node took the request and did not answer. A write may or may not have happened. To be able to repeat a write safely, send an Idempotency-Key header."

// endedEarlyWords is the text for a client that closed its side of the connection before it had its
// answer.
const endedEarlyWords = "The client closed its side of the connection before it had the answer. Whether the request was carried out is not known."

// kvAnswers are the answers for a kv. The texts must not contain quotes of either kind,
// backslashes, characters that are special in HTML, or percent signs, which are special in a format
// of HAProxy.
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

// programAnswers are the answers for other applications. A program gets a request while it still
// comes in, so a request that breaks off in its body may have reached the program. A 503 becomes a
// 504 where a server took an earlier try, and keeps its body: the text is for both.
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
