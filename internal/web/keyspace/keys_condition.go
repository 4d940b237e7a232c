package keyspace

import (
	"strings"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/response"
)

// conditions are a request's preconditions (RFC 9110, section 13.1).
type conditions struct {
	match, noneMatch entityTags
}

// entityTags are the entity tags of an If-Match or If-None-Match.
type entityTags struct {
	given bool
	any   bool     // the tag is *
	list  []string // without quotes; only those that may be ours
}

func readConditions(ctx *fasthttp.RequestCtx) (c conditions, err error) {
	h := &ctx.Request.Header
	// A weak tag never matches where the comparison has to be strong, as for If-Match (section
	// 13.1.1).
	if c.match, err = readTags("If-Match", h.PeekAll("If-Match"), false); err != nil {
		return c, err
	}
	c.noneMatch, err = readTags("If-None-Match", h.PeekAll("If-None-Match"), true)
	return c, err
}

// readTags reads a list of entity tags (section 8.8.3): "a", W/"b". weak: a weak tag counts like a
// strong one.
func readTags(name string, lines [][]byte, weak bool) (entityTags, error) {
	t := entityTags{given: len(lines) > 0}
	bad := response.BadRequest(name + ` is * or a list of entity tags in double quotes, such as "33a64df5", "0b8a".`)
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

// mayBeOurs reports whether a tag looks like one of ours: a SHA-1 in lower-case hex. The scripts
// rely on it having no comma.
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

// argument returns the tags in the form that the scripts take: see checkKey.
func (t entityTags) argument() string {
	switch {
	case !t.given:
		return ""
	case t.any:
		return "*"
	}
	return "," + strings.Join(t.list, ",") + ","
}

// among reports whether the tags match a key.
func (t entityTags) among(r *keyState) bool {
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

// read returns the status that the preconditions of a GET or HEAD give a key that exists, in their
// order (section 13.2.2).
func (c conditions) read(r *keyState) int {
	switch {
	case c.match.given && !c.match.among(r):
		return fasthttp.StatusPreconditionFailed
	case c.noneMatch.given && c.noneMatch.among(r):
		return fasthttp.StatusNotModified
	}
	return fasthttp.StatusOK
}
