package stack

import (
	"regexp"
	"slices"
	"strings"

	"holdfast/internal/yamltree"
)

// Route sends requests to an application. PathPrefix, PathBegins and PathSuffix are alternatives;
// Host, Method and Header narrow them. Comparisons ignore case, except for methods.
type Route struct {
	// PathPrefix are beginnings of the path in whole segments, and PathBegins are beginnings of any
	// kind.
	PathPrefix []string `yaml:"path-prefix"`
	PathBegins []string `yaml:"path-begins"`
	PathSuffix []string `yaml:"path-suffix"`
	Host       []string `yaml:"host"`
	Method     []string `yaml:"method"`
	// Header are values of headers by name. For each header, one value has to match.
	Header map[string][]string `yaml:"header"`
	// StripPrefix removes the PathPrefix from the path.
	StripPrefix bool   `yaml:"strip-prefix"`
	App         string `yaml:"app"`
}

// IsDefault reports whether the route takes every request.
func (r Route) IsDefault() bool {
	return !r.HasPath() && len(r.Host) == 0 && len(r.Method) == 0 && len(r.Header) == 0
}

// HasPath reports whether the path of a request matters to the route.
func (r Route) HasPath() bool {
	return len(r.PathPrefix)+len(r.PathBegins)+len(r.PathSuffix) > 0
}

// Segments returns the path that matches a prefix of whole segments, and what all paths below it
// begin with. A prefix that ends in a slash matches no path by itself.
func Segments(prefix string) (path, below string) {
	if strings.HasSuffix(prefix, "/") {
		return "", prefix
	}
	return prefix, prefix + "/"
}

// AppAt returns the application to which the routes lead a request with this method, Host header
// and path, and without any header that a route requires. It returns "" for the statistics page. It
// decides as the balancers do.
func (s Stack) AppAt(method, host, path string) string {
	path, _, _ = strings.Cut(path, "?")
	if page := s.Entry.Statistics; page != "" && (path == page || strings.HasPrefix(path, page+"/") || strings.HasPrefix(path, page+";")) {
		return ""
	}
	rest := ""
	for _, r := range s.Routes {
		if r.IsDefault() {
			rest = r.App
		} else if r.takes(method, host, path) {
			return r.App
		}
	}
	return rest
}

// port is a port at the end of a Host header.
var port = regexp.MustCompile(`:[0-9]*$`)

// takes reports whether the route takes a request without further headers.
func (r Route) takes(method, host, path string) bool {
	host, path = port.ReplaceAllString(host, ""), strings.ToLower(path)
	switch {
	case len(r.Header) > 0:
		return false
	case len(r.Method) > 0 && !slices.Contains(r.Method, method):
		return false
	case len(r.Host) > 0 && !slices.ContainsFunc(r.Host, func(h string) bool { return strings.EqualFold(h, host) }):
		return false
	case !r.HasPath():
		return true
	}
	begins := func(p string) bool { return strings.HasPrefix(path, strings.ToLower(p)) }
	whole := func(p string) bool {
		itself, below := Segments(p)
		return itself != "" && path == strings.ToLower(itself) || begins(below)
	}
	ends := func(p string) bool { return strings.HasSuffix(path, strings.ToLower(p)) }
	return slices.ContainsFunc(r.PathPrefix, whole) || slices.ContainsFunc(r.PathBegins, begins) || slices.ContainsFunc(r.PathSuffix, ends)
}

// conditions are the keys of a route that decide which requests it takes.
var conditions = []string{"path-prefix", "path-begins", "path-suffix", "host", "method", "header"}

// hasCondition reports whether the file has any condition for a route.
func (r *reader) hasCondition(route path) bool {
	return slices.ContainsFunc(conditions, func(name string) bool { return r.has(route.key(name)) })
}

// longestStripped is the longest prefix, in bytes, that can be removed. HAProxy may have been built
// with POSIX regular expressions, which count to 255.
const longestStripped = 255

// validateStrip reports a prefix that cannot be removed.
func validateStrip(r *reader, p path, route Route) {
	at := p.key("strip-prefix")
	if !route.StripPrefix || r.faulty(p.key("path-prefix")) {
		return
	}
	for _, other := range []string{"path-begins", "path-suffix"} {
		if r.has(p.key(other)) {
			r.Report(r.keyPosition(at), "%s: a request that matches by %s need not have the prefix: make another route of %s", at, other, other)
			return
		}
	}
	if !r.has(p.key("path-prefix")) {
		r.Report(r.keyPosition(at), "%s: there is no prefix to take off: add a path-prefix, such as /api, or remove it", at)
	}
	for i, prefix := range route.PathPrefix {
		switch here := p.key("path-prefix").item(i); {
		case strings.Trim(prefix, "/") == "":
			r.Report(r.positionOf(here), "%s: of %s nothing can be taken off (strip-prefix): write a path such as /api, or remove strip-prefix", p.key("path-prefix"), yamltree.Quoted(prefix))
		case len(prefix) > longestStripped:
			r.Report(r.positionOf(here), "%s: it has %d characters: of one that is taken off (strip-prefix) write at most %d", p.key("path-prefix"), len(prefix), longestStripped)
		}
	}
}
