package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/stack"
)

// routeData is a route with a condition.
type routeData struct {
	Number    int // from 1
	Name, App string
	KV        bool // whether it leads to a KV
	Condition string
	// Paths are whole paths, and Beginnings are beginnings of paths.
	Paths, Beginnings, Suffixes, Hosts, Methods []string
	Headers                                     []headerData
}

// headerData is a condition on a header.
type headerData struct {
	ACL, Name string
	Values    []string
}

// stripData is a prefix that is removed before a request reaches the application of a route.
type stripData struct {
	ACL, Route  string
	Path, Below string // see stack.Segments
	Prefix      string // without a slash at its end
	Format      string // Prefix as a format string of HAProxy
}

// StrippedPrefixes returns the prefixes that are removed from paths, each once.
func (d haproxyData) StrippedPrefixes() []string {
	var all []string
	for _, s := range d.Strips {
		all = append(all, s.Prefix)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// routes fills in the routes of a balancer.
func (b builder) routes(d *haproxyData) {
	for _, r := range b.stack.Routes {
		kv := b.stack.Apps[r.App].Kind() == stack.KV
		if r.IsDefault() {
			d.Default, d.DefaultKV = r.App, kv
			continue
		}
		route := newRoute(len(d.Routes)+1, r)
		route.KV = kv
		d.Routes = append(d.Routes, route)
		if r.StripPrefix {
			d.Strips = append(d.Strips, strips(route.Name, r.PathPrefix)...)
		}
	}
}

func newRoute(number int, r stack.Route) routeData {
	d := routeData{
		Number: number, Name: fmt.Sprintf("route%d", number), App: r.App,
		Beginnings: slices.Clone(r.PathBegins), Suffixes: r.PathSuffix, Hosts: r.Host, Methods: r.Method,
	}

	for _, prefix := range r.PathPrefix {
		path, below := stack.Segments(prefix)
		if path != "" {
			d.Paths = append(d.Paths, path)
		}
		d.Beginnings = append(d.Beginnings, below)
	}

	for i, name := range slices.Sorted(maps.Keys(r.Header)) {
		d.Headers = append(d.Headers, headerData{fmt.Sprintf("%s.header%d", d.Name, i+1), name, r.Header[name]})
	}

	var all []string
	if r.HasPath() {
		all = append(all, d.Name+".path")
	}
	if len(r.Host) > 0 {
		all = append(all, d.Name+".host")
	}
	if len(r.Method) > 0 {
		all = append(all, d.Name+".method")
	}

	for _, h := range d.Headers {
		all = append(all, h.ACL)
	}

	d.Condition = strings.Join(all, " ") // a space is "and"
	return d
}

// strips returns the prefixes of a route that are removed from paths. The longest comes first,
// because it takes precedence when two prefixes match.
func strips(route string, prefixes []string) []stripData {
	prefixes = slices.Clone(prefixes)
	slices.SortStableFunc(prefixes, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	var all []stripData
	for i, prefix := range prefixes {
		path, below := stack.Segments(prefix)
		plain := strings.TrimRight(prefix, "/")
		all = append(all, stripData{
			ACL: fmt.Sprintf("%s.prefix%d", route, i+1), Route: route,
			Path: path, Below: below,
			Prefix: plain, Format: strings.ReplaceAll(plain, "%", "%%"),
		})
	}
	return all
}
