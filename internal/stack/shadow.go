package stack

import (
	"fmt"
	"slices"
	"strings"
)

// adviseRoutes warns of routes that never get a request, and of one without a
// condition that stands before others.
func adviseRoutes(r *reader, s Stack) {
	for i, route := range s.Routes {
		p := path("routes").item(i)
		if !r.has(p) { // filled in
			continue
		}
		if route.IsDefault() {
			if i < len(s.Routes)-1 {
				r.warn(r.near(p), "routes: this route has no condition and stands before others: it gets only what they leave, wherever it stands; write it last")
			}
			continue
		}
		adviseRoute(r, s, i)
	}
}

// adviseRoute warns of the conditions of a route that earlier ones take every
// request of.
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
		r.warn(r.near(p), "routes: this route never gets a request for %s: %s takes them before; remove the condition, or write the route before that", listed(dead, "or"), by)
	default:
		r.warn(r.near(p), "routes: this route never gets a request: %s takes them before; write it before that, or remove it", by)
	}
}

// takenBefore names what takes every request of an alternative before route i;
// taken is false when nothing does.
func (s Stack) takenBefore(r *reader, i int, want alternative) (taker string, taken bool) {
	if page := s.Entry.Statistics; page != "" && strings.HasPrefix(want.prefix, page+"/") {
		return "the statistics page " + page, true
	}
	for j, earlier := range s.Routes[:i] {
		if earlier.IsDefault() { // takes what is left, wherever it stands
			continue
		}
		for _, has := range earlier.alternatives() {
			if has.covers(want) {
				return fmt.Sprintf("the route on line %d", r.near(path("routes").item(j)).line), true
			}
		}
	}
	return "", false
}

// alternative is one way to match a route, in lower case: one host, or every
// one; one beginning or one end of the path, or every path.
type alternative struct{ host, prefix, suffix string }

func (a alternative) String() string {
	return a.host + a.prefix + a.suffix
}

// alternatives are all ways to match a route.
func (r Route) alternatives() []alternative {
	var paths []alternative
	for _, p := range r.PathPrefix {
		paths = append(paths, alternative{prefix: strings.ToLower(p)})
	}
	for _, s := range r.PathSuffix {
		paths = append(paths, alternative{suffix: strings.ToLower(s)})
	}
	if len(paths) == 0 {
		paths = []alternative{{}}
	}
	if len(r.Host) == 0 {
		return paths
	}
	var out []alternative
	for _, h := range r.Host {
		for _, p := range paths {
			p.host = strings.ToLower(h)
			out = append(out, p)
		}
	}
	return out
}

// covers reports whether every request that b matches matches a, too.
func (a alternative) covers(b alternative) bool {
	if a.host != "" && a.host != b.host {
		return false
	}
	switch {
	case a.prefix == "/" || a.prefix == "" && a.suffix == "": // every path
		return true
	case a.prefix != "":
		return strings.HasPrefix(b.prefix, a.prefix)
	default:
		return b.suffix != "" && strings.HasSuffix(b.suffix, a.suffix)
	}
}
