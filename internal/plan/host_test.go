package plan

import (
	"fmt"
	"testing"
	"time"

	"holdfast/internal/stack"
)

// A web node checks the Host header itself: see package web.
func TestAProgramIsAskedForTheStacksHostsAlone(t *testing.T) {
	for _, entry := range []struct {
		name   string
		change func(*stack.Entry)
		all    bool
	}{
		{"loopback", func(*stack.Entry) {}, false},
		{"auth none", func(e *stack.Entry) { e.Listen, e.Auth = "0.0.0.0"+e.Listen[len("127.0.0.1"):], "none" }, false},
		{"every host", func(e *stack.Entry) { e.Hosts = []string{"*"} }, true},
	} {
		t.Run(entry.name, func(t *testing.T) {
			t.Parallel()
			s := httpStack(t)
			entry.change(&s.Entry)
			s.Entry.Hosts = append(s.Entry.Hosts, "shop.example", "*.wild.example")
			node := &flaky{}
			port := node.serve(t)
			c := newCluster(t, s, map[string]int{"web-1": port, "web-2": port, "other-1": port, "other-2": port})
			c.start("balancer-1")
			eventually(t, 5*time.Second, func() error { return c.get("/other").is(200) })
			node.take()
			for host, own := range map[string]bool{
				"127.0.0.1:6301": true, "LocalHost": true, "[::1]:80": true, "web": true, "machine.example:80": true,
				"shop.example": true, "SHOP.example:8080": true, "a.wild.example": true, "other.example": true,
				"evil.example": false, "evil.example:6301": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false,
				"evilshop.example": false, "shop.example.evil.example": false, "evil.example.": false,
			} {
				status := 421
				if own || entry.all {
					status = 200
				}
				for _, path := range []string{"/other/x", "/other/x.png?" + host} {
					if err := c.request("POST", path, "x", map[string]string{"Host": host}).is(status); err != nil {
						t.Errorf("%s, %s: %v", host, path, err)
					}
				}
				if n := len(node.take()); n != 2 && status == 200 || n != 0 && status != 200 {
					t.Errorf("%s: %d requests reached the program", host, n)
				}
			}
			// A program other than a browser may leave the header out.
			if r, body := c.raw(t, "GET /other HTTP/1.0\r\n\r\n"); r.StatusCode != 200 {
				t.Error(fmt.Sprint(r.Status, body))
			}
		})
	}
}
