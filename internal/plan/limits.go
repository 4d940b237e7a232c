package plan

import (
	"fmt"
	"strconv"
	"strings"
)

// clientLimit is a limit of one client's requests: a condition on what the balancer counted
// of them, the request itself included where it counts those under way.
type clientLimit struct {
	Condition string
	Number    int
	What      string // of whom they are too many
	Status    int
}

// clientLimits are the limits that the entry has.
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
	case d.TLS != nil: // by HTTP/2 a connection has many
		add("sc1_conn_cur(entry.addresses) gt", d.TLS.Requests, underWay)
	case len(d.TrustedProxies) > 0:
		add("sc1_conn_cur(entry.addresses) gt", d.PerAddress, underWay)
	}
	add("sc2_gpc0_rate(entry.tokens) ge", d.Limits.RequestsPerToken, "Too many requests a second come with this token")
	add("sc2_conn_cur(entry.tokens) gt", d.Limits.PerToken, "Too many requests with this token are under way")
	return all
}

// spelled is a regular expression of a parameter's name in a query as a web node reads it: each
// letter may be percent-encoded.
func spelled(name string) string {
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

// How a query names a token, and how it does so twice, as regular expressions.
var (
	tokenName    = spelled("_token") + "(=|[&;]|$)"
	tokenQuery   = "(^|[&;])" + tokenName
	tokenQueries = tokenQuery + "(.*[&;])?" + tokenName
)

// lastingQuery is a path with a query of what lasts: a stream of changes, or a long poll.
var lastingQuery = "^/v1/[^?]*[?](.*&)?(" + spelled("watch") + "|" + spelled("wait") + ")(=|&|$)"

// CountsAddresses and CountsTokens report what requests are counted by.
func (d haproxyData) CountsAddresses() bool {
	return d.TLS != nil || d.Limits.RequestsPerAddress > 0 || d.PerAddress > 0 && len(d.TrustedProxies) > 0
}

func (d haproxyData) CountsTokens() bool { return d.Limits.RequestsPerToken+d.Limits.PerToken > 0 }

// clientEntries is how many addresses, and how many tokens, a balancer has in mind. The one
// that was seen last takes the place of the one that was not seen for the longest.
const clientEntries = 100_000

// Words are said of a request beyond the limit.
func (l clientLimit) Words(kv bool) string {
	if kv {
		return l.What + "; this one was not executed. Try again in a second."
	}
	return l.What + ". Try again in a second."
}

// KVRoutes are the numbers of the routes to applications of kind kv. What no route takes has
// the number after the last.
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
