package stack

import (
	"regexp"
	"slices"
	"strings"
)

// AppAt is the name of the application that the routes lead a request to, by
// its Host header and its path; empty: the statistics page. It decides as the
// balancers do.
func (s Stack) AppAt(host, path string) string {
	path, _, _ = strings.Cut(path, "?")
	if page := s.Entry.Statistics; page != "" && (path == page || strings.HasPrefix(path, page+"/") || strings.HasPrefix(path, page+";")) {
		return ""
	}
	for _, r := range s.Routes {
		if r.takes(host, path) {
			return r.App
		}
	}
	return ""
}

// port is the end of a Host header that names a port.
var port = regexp.MustCompile(`:[0-9]*$`)

// takes reports whether the route takes a request.
func (r Route) takes(host, path string) bool {
	host, path = port.ReplaceAllString(host, ""), strings.ToLower(path)
	if len(r.Host) > 0 && !slices.ContainsFunc(r.Host, func(h string) bool { return strings.EqualFold(h, host) }) {
		return false
	}
	if len(r.PathPrefix)+len(r.PathSuffix) == 0 {
		return true
	}
	return slices.ContainsFunc(r.PathPrefix, func(p string) bool { return strings.HasPrefix(path, strings.ToLower(p)) }) ||
		slices.ContainsFunc(r.PathSuffix, func(p string) bool { return strings.HasSuffix(path, strings.ToLower(p)) })
}
