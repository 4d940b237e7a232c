package load

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/history"
)

// URL is a request of the user's own. The load records whether it is answered, but not what the
// answer says.
type URL struct {
	Method string
	// Host is the header Host; empty: the entry's address. Path begins with a slash and may have a
	// query.
	Host, Path string
	// Status is the expected status; 0: any from 200 to 399.
	Status int
	// Secure is true if the URL was given with https. The protocol of the request depends on the
	// entry alone.
	Secure bool
}

// methods are the methods that a URL may have.
var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
}

// ParseURL parses "[METHOD] PATH [STATUS]", such as "/cart" and "POST /orders 201". Instead of a
// path it accepts http://HOST/PATH, for a route by host.
func ParseURL(text string) (URL, error) {
	words := strings.Fields(text)
	u := URL{Method: http.MethodGet}
	if len(words) > 0 && !strings.ContainsAny(words[0], "/:") {
		u.Method = strings.ToUpper(words[0])
		words = words[1:]
		if !slices.Contains(methods, u.Method) {
			return URL{}, fmt.Errorf("%q: %s is no method that a URL is asked with; those are %s", text, u.Method, strings.Join(methods, ", "))
		}
	}
	if len(words) == 0 || len(words) > 2 {
		return URL{}, fmt.Errorf("%q: write a path, perhaps after a method and before the status that is expected: /cart or \"POST /orders 201\"", text)
	}
	if len(words) == 2 {
		n, err := strconv.Atoi(words[1])
		if err != nil || n < 200 || n > 599 {
			return URL{}, fmt.Errorf("%q: %s is no status of HTTP; 200 to 599 are", text, words[1])
		}
		u.Status = n
	}
	return u.parseAt(text, words[0])
}

// parseAt sets where the request goes.
func (u URL) parseAt(text, where string) (URL, error) {
	parsed, err := url.Parse(where)
	switch {
	case err != nil:
		return URL{}, fmt.Errorf("%q: %w", text, err)
	case parsed.Fragment != "" || parsed.User != nil:
		return URL{}, fmt.Errorf("%q: a fragment (#) and a user (@) are not sent; leave them out", text)
	case parsed.Scheme == "" && parsed.Host == "" && strings.HasPrefix(where, "/"):
	case (parsed.Scheme == "http" || parsed.Scheme == "https") && parsed.Host != "":
		u.Host, u.Secure = parsed.Host, parsed.Scheme == "https"
	default:
		return URL{}, fmt.Errorf("%q: a path begins with /, and a URL with http:// or https://, which is what the entry speaks", text)
	}
	u.Path = parsed.RequestURI()
	return u, nil
}

// String returns the name of the URL in a history: method and URL.
func (u URL) String() string {
	if u.Host == "" {
		return u.Method + " " + u.Path
	}
	scheme := "http://"
	if u.Secure {
		scheme = "https://"
	}
	return u.Method + " " + scheme + u.Host + u.Path
}

// Words returns a text that ParseURL parses to the same URL.
func (u URL) Words() string {
	if u.Status == 0 {
		return u.String()
	}
	return u.String() + " " + strconv.Itoa(u.Status)
}

// safe reports whether the request changes nothing (RFC 9110, section 9.2.1). Without an answer
// such a request has failed, and is not unknown.
func (u URL) safe() bool {
	return u.Method == http.MethodGet || u.Method == http.MethodHead || u.Method == http.MethodOptions
}

// judge returns what a status means. Only a client error (4xx) proves that nothing was done. What a
// program means by a 503 is unknown.
func (u URL) judge(status int) certainty {
	switch {
	case u.Status == status, u.Status == 0 && status >= 200 && status < 400:
		return done
	case status >= 400 && status < 500:
		return refused
	}
	return possible
}

// tryURLs requests each URL once.
func (l *Load) tryURLs(c *client) error {
	for n, u := range l.cfg.URLs {
		op := c.perform(task{number: n, kind: history.URL, verb: history.Ask, key: u.String(), url: &l.cfg.URLs[n]}, l.now())
		if op.Outcome != history.OK {
			return &RefusedError{Request: u.String(), Status: op.Status, Answer: op.Error}
		}
	}
	return nil
}
