package web

import (
	"strings"

	"github.com/valyala/fasthttp"
)

// conditions are a request's preconditions (RFC 9110, section 13.1).
type conditions struct {
	match, noneMatch tags
}

// tags are the entity tags of an If-Match or If-None-Match.
type tags struct {
	given bool
	any   bool     // *
	list  []string // without quotes; of those that may be ours
}

func readConditions(ctx *fasthttp.RequestCtx) (c conditions, err error) {
	h := &ctx.Request.Header
	// A weak tag never matches where the comparison has to be strong, as that
	// of If-Match (section 13.1.1).
	if c.match, err = readTags("If-Match", h.PeekAll("If-Match"), false); err != nil {
		return c, err
	}
	c.noneMatch, err = readTags("If-None-Match", h.PeekAll("If-None-Match"), true)
	return c, err
}

// readTags reads a list of entity tags (section 8.8.3): "a", W/"b". weak says
// that a weak tag counts like a strong one.
func readTags(name string, lines [][]byte, weak bool) (tags, error) {
	t := tags{given: len(lines) > 0}
	bad := badRequest(name + ` is * or a list of entity tags in double quotes, such as "33a64df5", "0b8a".`)
	some := false
	for _, line := range lines {
		rest := strings.Trim(string(line), " \t")
		if rest == "*" && len(lines) == 1 {
			t.any = true
			return t, nil
		}
		for rest != "" {
			if rest[0] == ',' || rest[0] == ' ' || rest[0] == '\t' { // a list may have empty elements (section 5.6.1)
				rest = rest[1:]
				continue
			}
			var isWeak bool
			rest, isWeak = strings.CutPrefix(rest, "W/")
			if rest == "" || rest[0] != '"' {
				return t, bad
			}
			tag, after, closed := strings.Cut(rest[1:], `"`)
			if !closed {
				return t, bad
			}
			rest = strings.TrimLeft(after, " \t")
			if rest != "" && rest[0] != ',' {
				return t, bad
			}
			some = true
			if (weak || !isWeak) && mayBeOurs(tag) {
				t.list = append(t.list, tag)
			}
		}
	}
	if t.given && !some {
		return t, bad
	}
	return t, nil
}

// mayBeOurs says that a tag looks like one of ours: hex, in lower case. The
// scripts rely on it having no comma.
func mayBeOurs(tag string) bool {
	if len(tag) != 40 {
		return false
	}
	for _, c := range []byte(tag) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// argument is the tags as the scripts take them.
func (t tags) argument() string {
	switch {
	case !t.given:
		return ""
	case t.any:
		return "*"
	}
	return "," + strings.Join(t.list, ",") + ","
}

// among answers whether the tags name a resource.
func (t tags) among(r *keyState) bool {
	if !r.found() {
		return false
	}
	if t.any {
		return true
	}
	for _, tag := range t.list {
		if tag == r.tag {
			return true
		}
	}
	return false
}

// read answers the status that the preconditions of a GET or HEAD give a
// resource that is there, in their order (section 13.2.2).
func (c conditions) read(r *keyState) int {
	switch {
	case c.match.given && !c.match.among(r):
		return fasthttp.StatusPreconditionFailed
	case c.noneMatch.given && c.noneMatch.among(r):
		return fasthttp.StatusNotModified
	}
	return fasthttp.StatusOK
}
