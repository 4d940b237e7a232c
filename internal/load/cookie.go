package load

import (
	"maps"
	"slices"
	"strings"
)

// Clients keep cookies as browsers do, so that an application whose clients stay on their nodes
// (sticky in the stack file) is loaded as it is in use.

// keepCookies stores the cookies of the last answer.
func (c *client) keepCookies() {
	for name, value := range c.conn.answer.Header.Cookies() {
		first, _, _ := strings.Cut(string(value), ";")
		_, content, _ := strings.Cut(first, "=")
		if _, known := c.cookies[string(name)]; known || len(c.cookies) < maxCookies {
			c.cookies[string(name)] = strings.TrimSpace(content)
		}
	}
}

// maxCookies is how many cookies a client keeps.
const maxCookies = 50

// sendCookies adds the cookies to the request.
func (c *client) sendCookies() {
	if len(c.cookies) == 0 {
		return
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(c.cookies)) {
		all = append(all, name+"="+c.cookies[name])
	}
	c.request.line("Cookie", strings.Join(all, "; "))
}
