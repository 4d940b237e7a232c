package stack

import (
	"regexp"

	"holdfast/internal/yamltree"
)

var routeKeys = []key[Route]{
	textsKey("path-prefix", pathRule, false, func(r *Route) *[]string { return &r.PathPrefix },
		"Beginnings of the path by whole segments: /static is for /static and for all paths below /static/, not for /statics. One of them, or of path-begins or path-suffix, has to match. Case does not matter."),
	textsKey("path-begins", pathRule, false, func(r *Route) *[]string { return &r.PathBegins },
		"Beginnings of the path, letter by letter: /static is for /statics as well. One of them, or of path-prefix or path-suffix, has to match. Case does not matter."),
	textsKey("path-suffix", suffixRule, false, func(r *Route) *[]string { return &r.PathSuffix },
		"Ends of the path, such as .png; one of them, or of path-prefix or path-begins, has to match. Case does not matter."),
	textsKey("host", hostRule, false, func(r *Route) *[]string { return &r.Host },
		"Host names; one of them has to match as well. Case does not matter."),
	textsKey("method", methodRule, false, func(r *Route) *[]string { return &r.Method },
		"Methods, such as GET; one of them has to match as well. HEAD is a method of its own."),
	headerKey(),
	stripKey(),
	textKey("app", appRule, func(r *Route) *string { return &r.App },
		"The application that gets the request."),
}

// The parts of a request's line and headers (RFC 9110, sections 5.1 and 9.1), without characters
// that are special to HAProxy.
var (
	methodRule = rule{
		what:    "a method such as GET, in capital letters",
		pattern: regexp.MustCompile(`^[A-Z][A-Z-]{0,31}$`),
	}
	headerName      = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)
	headerValueRule = rule{
		what:    "a value of the header without spaces and commas, such as beta",
		pattern: regexp.MustCompile(`^[A-Za-z0-9._~/%+@:=;!&*][A-Za-z0-9._~/%+@:=;!&*-]*$`),
		loose:   true,
	}
)

// headerKey is the headers by name, each with the values that match.
func headerKey() key[Route] {
	return key[Route]{
		name: "header",
		doc:  "Headers by name, such as X-Version: beta, and their values; of each one the request has to have one of the values, as a whole or between commas. Case does not matter.",
		read: func(r *reader, p path, n *yamltree.Node, t *Route) {
			if n.Shape != yamltree.Section || len(n.Entries) == 0 {
				r.reportType(p, n, "headers by name, such as X-Version: beta")
				return
			}
			t.Header = map[string][]string{}
			for _, e := range n.Entries {
				below := p.key(e.Key)
				r.spots[below] = spot{e.At, e.Value.Pos}
				if !headerName.MatchString(e.Key) {
					r.ReportOnce(e.At, "%s: %s is no name of a header: write letters, digits and dashes, a letter first, such as X-Version", p, yamltree.Quoted(e.Key))
					continue
				}
				t.Header[e.Key] = r.readHeaderValues(below, e.Value)
			}
		},
		show: func(t *Route) any {
			if len(t.Header) == 0 {
				return nil
			}
			out := mapping{}
			for _, name := range sortedKeys(t.Header) {
				out = append(out, pair{name, "", anys(t.Header[name])})
			}
			return out
		},
		schema: func() schema {
			one := headerValueRule.schema()
			return schema{
				"type":                 "object",
				"minProperties":        1,
				"propertyNames":        schema{"pattern": headerName.String()},
				"additionalProperties": schema{"anyOf": []any{one, schema{"type": "array", "items": one}}},
			}
		},
	}
}

// readHeaderValues returns the values of one header.
func (r *reader) readHeaderValues(p path, n *yamltree.Node) (values []string) {
	if n.Shape == yamltree.List && len(n.Items) == 0 {
		r.ReportOnce(n.Pos, "%s is an empty list: write %s, or remove the key", p, headerValueRule.what)
	}
	for i, item := range r.readItems(p, n, headerValueRule.what) {
		if v, ok := r.readText(p.item(i), item, headerValueRule); ok {
			values = append(values, v)
		}
	}
	return values
}

// stripKey is a flag that Show leaves out where it is false.
func stripKey() key[Route] {
	k := boolKey("strip-prefix", func(r *Route) *bool { return &r.StripPrefix },
		"Whether the path reaches the application without the path-prefix: with /shop, a request for /shop/cart?a=b is one for /cart?a=b there. A program gets the prefix in X-Forwarded-Prefix.")
	show := k.show
	k.show = func(t *Route) any {
		if !t.StripPrefix {
			return nil
		}
		return show(t)
	}
	return k
}
