package stack

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/yamltree"
)

// adviseRoutes warns of routes that never get a request, and of a route without a condition that is
// not the last one.
func adviseRoutes(r *reader, s Stack) {
	for i, route := range s.Routes {
		p := path("routes").item(i)
		if !r.has(p) { // the route is not in the file but a default
			continue
		}
		if route.IsDefault() {
			if i < len(s.Routes)-1 {
				r.warn(r.positionOf(p), "routes: this route has no condition and stands before others: it gets only what they leave, wherever it stands; write it last")
			}
			continue
		}
		adviseRoute(r, s, i)
	}
}

// adviseRoute warns of those conditions of route i for which earlier routes take every request.
func adviseRoute(r *reader, s Stack, i int) {
	p := path("routes").item(i)
	var dead []string
	var by string
	alive := false
	for _, want := range s.Routes[i].alternatives() {
		taker, taken := s.takenBefore(r, i, want)
		if !taken {
			alive = true
			continue
		}
		if by = taker; !slices.Contains(dead, want.String()) {
			dead = append(dead, want.String())
		}
	}
	switch {
	case len(dead) == 0:
	case alive:
		r.warn(r.positionOf(p), "routes: this route never gets a request for %s: %s takes them before; remove the condition, or write the route before that", yamltree.Listed(dead, "or"), by)
	default:
		r.warn(r.positionOf(p), "routes: this route never gets a request: %s takes them before; write it before that, or remove it", by)
	}
}

// takenBefore returns what takes every request of an alternative before route i does. taken is
// false if nothing does.
func (s Stack) takenBefore(r *reader, i int, want alternative) (taker string, taken bool) {
	if page := s.Entry.Statistics; page != "" && strings.HasPrefix(want.prefix+want.begins, page+"/") {
		return "the statistics page " + page, true
	}
	for j, earlier := range s.Routes[:i] {
		if earlier.IsDefault() { // it takes what the others leave, wherever it is written
			continue
		}
		for _, has := range earlier.alternatives() {
			if has.covers(want) {
				return fmt.Sprintf("the route on line %d", r.positionOf(path("routes").item(j)).Line), true
			}
		}
	}
	return "", false
}

// alternative is one way to match a route: one host or all; one beginning or end of the path, or
// every path; and so on. All texts are in lower case, except for the method.
type alternative struct {
	host, method, headers string
	// prefix is in whole segments; the others are plain texts.
	prefix, begins, suffix string
}

func (a alternative) String() string {
	where := a.host + a.prefix + a.begins + a.suffix
	if a.method != "" {
		return strings.TrimSpace(a.method + " " + where)
	}
	return where
}

// alternatives returns all ways to match a route.
func (r Route) alternatives() []alternative {
	var paths []alternative
	for _, p := range r.PathPrefix {
		paths = append(paths, alternative{prefix: strings.ToLower(p)})
	}

	for _, p := range r.PathBegins {
		paths = append(paths, alternative{begins: strings.ToLower(p)})
	}

	for _, s := range r.PathSuffix {
		paths = append(paths, alternative{suffix: strings.ToLower(s)})
	}

	if len(paths) == 0 {
		paths = []alternative{{}}
	}

	hosts, methods := r.Host, r.Method
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	if len(methods) == 0 {
		methods = []string{""}
	}

	headers := r.headers()
	var out []alternative
	for _, method := range methods {
		for _, host := range hosts {
			for _, p := range paths {
				p.method, p.host, p.headers = method, strings.ToLower(host), headers
				out = append(out, p)
			}
		}
	}
	return out
}

// headers returns the conditions of a route on headers as one text.
func (r Route) headers() string {
	var all []string
	for _, name := range sortedKeys(r.Header) {
		all = append(all, fmt.Sprintf("%s: %s", name, strings.Join(r.Header[name], ", ")))
	}
	return strings.ToLower(strings.Join(all, "; "))
}

// covers reports whether every request that matches b also matches a.
func (a alternative) covers(b alternative) bool {
	if a.host != "" && a.host != b.host || a.method != "" && a.method != b.method || a.headers != "" && a.headers != b.headers {
		return false
	}
	switch {
	case a.prefix == "/" || a.begins == "/" || a.prefix+a.begins+a.suffix == "": // every path
		return true
	case a.prefix != "":
		itself, below := Segments(a.prefix)
		return itself != "" && b.prefix == itself || strings.HasPrefix(b.prefix, below) || strings.HasPrefix(b.begins, below)
	case a.begins != "":
		return strings.HasPrefix(b.prefix+b.begins, a.begins)
	default:
		return b.suffix != "" && strings.HasSuffix(b.suffix, a.suffix)
	}
}
