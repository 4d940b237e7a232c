package plan

import (
	"slices"
	"strings"
)

// originHeaders are the headers in which a proxy tells where a request came from: addresses,
// schemes, hosts and ports. A star stands for any ending. Many programs believe such headers
// without checking who sent them, so none that comes from a client itself may reach a program.
var originHeaders = []string{
	"x-forwarded*", "forwarded*", "x-original-*", "x-rewrite-url",
	"x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-remote-ip", "x-remote-addr",
	"x-originating-ip", "x-proxyuser-ip", "x-envoy-external-address",
	"client-ip", "true-client-ip", "proxy-client-ip", "wl-proxy-client-ip",
	"cf-connecting-ip*", "fastly-client-ip", "fly-client-ip", "x-azure-clientip", "x-appengine-user-ip",
	"x-scheme", "x-url-scheme", "x-proto", "cloudfront-forwarded-proto", "cf-visitor", "x-arr-ssl", "https",
	"front-end-https", "x-host",
	"proxy", // tells a CGI program which proxy to use for its own requests
}

// mountHeaders tell a program under which path it is mounted. gunicorn accepts them, spelled with
// an underscore, from a proxy on its own machine, as the balancer is. A trusted proxy may send them
// in that form.
var mountHeaders = []string{"script-name", "x-script-name", "path-info"}

// originNames returns a pattern of the names of originHeaders and mountHeaders as programs read
// them. HAProxy has the names in lower case. WSGI and CGI use the same variable for X-Forwarded-For
// and X_Forwarded_For, and some programs also for X.Forwarded.For.
func originNames() string {
	return anyName(slices.Concat(originHeaders, mountHeaders), func(name string) []string {
		return []string{strings.ReplaceAll(name, "-", otherSign)}
	})
}

// strangeOriginNames returns a pattern of the names of originHeaders in which something other than
// a dash stands for a dash. No proxy sends such names, only a client behind it.
func strangeOriginNames() string {
	return anyName(originHeaders, func(name string) []string {
		var all []string
		parts := strings.Split(name, "-")
		for i := 1; i < len(parts); i++ {
			before, after := strings.Join(parts[:i], otherSign), strings.Join(parts[i:], otherSign)
			all = append(all, before+strangeSign+after)
		}
		if beginning, open := strings.CutSuffix(name, "*"); open {
			all = append(all, beginning+"[a-z0-9-]*"+strangeSign+"*")
		}
		return all
	})
}

// What may stand for a dash in a name, and the same without the dash itself.
const (
	otherSign   = "."
	strangeSign = "[^a-z0-9-]"
)

// anyName returns a pattern that matches any spelling of any of the names as a whole.
func anyName(names []string, spellings func(name string) []string) string {
	var all []string
	for _, name := range names {
		for _, spelling := range spellings(name) {
			if beginning, open := strings.CutSuffix(spelling, "*"); open {
				spelling = beginning + ".*"
			}
			all = append(all, spelling)
		}
	}
	return "^(" + strings.Join(all, "|") + ")$"
}
