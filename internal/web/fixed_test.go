//go:build linux && (amd64 || arm64)

package web

import (
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/web/response"
)

// The server that a benchmark compares a node with has to send the same bytes.
func TestACeilingAnswersWhatANodeDoes(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "value")
	server, _ := counted(t, Config{}, client)
	node, _ := listen(t, server)

	fixed := Fixed{Value: func([]byte) []byte { return []byte("value") }}
	for _, f := range response.CommonHeaders(server.node) {
		fixed.Fields = append(fixed.Fields, [2]string{string(f[0]), string(f[1])})
	}
	ceiling, _ := listenWith(t, fixed.Serve)

	date := regexp.MustCompile(`Date: [^\r]*`)
	for _, extra := range []string{"", "Holdfast-Read: cached\r\n"} {
		ask := func(addr string) string {
			c := dial(t, addr)
			defer c.Close()
			if _, err := io.WriteString(c, "GET /get?key=k HTTP/1.1\r\n"+plainHead+extra+"\r\n"); err != nil {
				t.Fatal(err)
			}
			answer, err := c.answer()
			if err != nil {
				t.Fatal(err)
			}
			return date.ReplaceAllString(answer, "Date: then")
		}
		redistest.Eventually(t, 5*time.Second, "the node answers from where it is asked to", func() bool {
			return strings.Contains(ask(node), extra)
		})
		if got, want := ask(ceiling), ask(node); got != want {
			t.Errorf("%q, and a node %q", got, want)
		}
	}
}
