package plan

import (
	"fmt"
	"strconv"
	"strings"

	"holdfast/internal/web/routes"
)

// clientLimit is a limit on one client's requests. Condition compares a count of the balancer's
// with Number; a count of requests under way includes the request itself.
type clientLimit struct {
	Condition string
	Number    int
	What      string // what there is too much of, as a sentence
	Status    int
}

// clientLimits returns the limits that the entry has.
func (d haproxyData) clientLimits() []clientLimit {
	var all []clientLimit
	add := func(condition string, number int, what string) {
		if number > 0 {
			all = append(all, clientLimit{condition, number, what, 429})
		}
	}
	if d.TLS != nil {
		const busy = "Too many requests of all clients are under way"
		all = append(all, clientLimit{"var(txn.under_way) -m int ge", d.Maxconn, busy, 503})
	}
	add("sc1_gpc0_rate(entry.addresses) ge", d.Limits.RequestsPerAddress, "Too many requests a second come from this client address")
	const underWay = "Too many requests of this client address are under way"
	switch {
	case d.TLS != nil: // an HTTP/2 connection has many requests
		add("sc1_conn_cur(entry.addresses) gt", d.TLS.Requests, underWay)
	case len(d.TrustedProxies) > 0:
		add("sc1_conn_cur(entry.addresses) gt", d.PerAddress, underWay)
	}
	add("sc2_gpc0_rate(entry.tokens) ge", d.Limits.RequestsPerToken, "Too many requests a second come with this token")
	add("sc2_conn_cur(entry.tokens) gt", d.Limits.PerToken, "Too many requests with this token are under way")
	return all
}

// spellingPattern returns a regular expression of a query parameter's name as a web node reads it:
// each letter may be percent-encoded.
func spellingPattern(name string) string {
	var out strings.Builder
	for i := range len(name) {
		code := fmt.Sprintf("%02x", name[i])
		for _, digit := range "abcdef" {
			code = strings.ReplaceAll(code, string(digit), fmt.Sprintf("[%c%c]", digit, digit-'a'+'A'))
		}
		fmt.Fprintf(&out, "(%c|%%%s)", name[i], code)
	}
	return out.String()
}

// Regular expressions of a query that names a token, and of one that does so twice.
var (
	tokenName    = spellingPattern("_token") + "(=|[&;]|$)"
	tokenQuery   = "(^|[&;])" + tokenName
	tokenQueries = tokenQuery + "(.*[&;])?" + tokenName
)

// How the paths of a web node's lasting requests begin, and of those that go by its direct backend.
var (
	lastingPaths = strings.Join(routes.Streams(), " ")
	directPaths  = strings.Join(append(routes.Streams(), routes.Answered()...), " ")
)

// lastingQuery matches a path with a query for a lasting request: a stream of changes, or a long
// poll.
var lastingQuery = func() string {
	segment, parameters := routes.Lasting()
	var patterns []string
	for _, name := range parameters {
		patterns = append(patterns, spellingPattern(name))
	}
	return "^/" + segment + "/[^?]*[?](.*&)?(" + strings.Join(patterns, "|") + ")(=|&|$)"
}()

// CountsAddresses and CountsTokens report whether requests are counted by client address, and by
// token.
func (d haproxyData) CountsAddresses() bool {
	return d.TLS != nil || d.Limits.RequestsPerAddress > 0 || d.PerAddress > 0 && len(d.TrustedProxies) > 0
}

func (d haproxyData) CountsTokens() bool { return d.Limits.RequestsPerToken+d.Limits.PerToken > 0 }

// clientEntries is how many addresses, and how many tokens, a balancer remembers. A new one
// replaces the one that was not seen for the longest time.
const clientEntries = 100_000

// Words returns the text of the answer to a request beyond the limit.
func (l clientLimit) Words(kv bool) string {
	if kv {
		return l.What + "; this one was not executed. Try again in a second."
	}
	return l.What + ". Try again in a second."
}

// KVRoutes returns the numbers of the routes to applications of kind kv. Requests that match no
// route have the number after the last route's.
func (d haproxyData) KVRoutes() []string {
	var all []string
	for _, r := range d.Routes {
		if r.KV {
			all = append(all, strconv.Itoa(r.Number))
		}
	}
	if d.DefaultKV {
		all = append(all, strconv.Itoa(len(d.Routes)+1))
	}
	return all
}
