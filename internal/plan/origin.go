package plan

import (
	"slices"
	"strings"
)

// originHeaders are the headers in which a proxy says where a request came
// from, and that programs believe: addresses, schemes, hosts and ports. A
// star stands for any end. Applications may read them without a look at who
// sent them, so none of a client's own may reach one.
var originHeaders = []string{
	"x-forwarded*", "forwarded*", "x-original-*", "x-rewrite-url",
	"x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-remote-ip", "x-remote-addr",
	"x-originating-ip", "x-proxyuser-ip", "x-envoy-external-address",
	"client-ip", "true-client-ip", "proxy-client-ip", "wl-proxy-client-ip",
	"cf-connecting-ip*", "fastly-client-ip", "fly-client-ip", "x-azure-clientip", "x-appengine-user-ip",
	"x-scheme", "x-url-scheme", "x-proto", "cloudfront-forwarded-proto", "cf-visitor", "x-arr-ssl", "https",
	"front-end-https", "x-host",
	"proxy", // through which one a CGI program shall ask others
}

// mountHeaders say where a program is mounted. gunicorn takes them from a proxy on
// its own machine, which the balancer is, and spelt with an underscore: a proxy that
// is trusted may send them so.
var mountHeaders = []string{"script-name", "x-script-name", "path-info"}

// originNames matches the names of originHeaders and mountHeaders, which HAProxy has in lower
// case, as programs read them: WSGI and CGI have one variable for
// X-Forwarded-For and X_Forwarded_For, and some of them for X.Forwarded.For.
func originNames() string {
	return anyName(slices.Concat(originHeaders, mountHeaders), func(name string) []string {
		return []string{strings.ReplaceAll(name, "-", otherSign)}
	})
}

// strangeOriginNames matches those of them that are not spelt with dashes: no
// proxy sends such, only clients behind it.
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

// What may stand for a dash in a name, and that but for the dash itself.
const (
	otherSign   = "."
	strangeSign = "[^a-z0-9-]"
)

// anyName matches the spellings of any of the names as a whole.
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
