package conn

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"holdfast/internal/redis/resp"
)

func TestLoggingIn(t *testing.T) {
	const info = "$32\r\n# Server\r\nx:1\r\nrun_id:abc\r\ny:2\r\n\r\n"
	for _, test := range []struct {
		Options Options
		answer  string
		asks    string
		want    string // in the error
	}{
		{Options{}, info, "INFO server", ""},
		{Options{Password: "p"}, "+OK\r\n" + info, "AUTH p INFO server", ""},
		{Options{Username: "u", Password: "p", DB: 3, Name: "n"}, "+OK\r\n+OK\r\n+OK\r\n" + info, "AUTH u p SELECT 3 CLIENT SETNAME n INFO server", ""},
		{Options{Password: "p"}, "-WRONGPASS no\r\n", "AUTH p INFO server", "WRONGPASS no"},
		{Options{}, "-NOPERM no\r\n", "INFO server", "NOPERM no"},
		{Options{Password: "p"}, "HTTP/1.1 400 Bad Request\r\n", "AUTH p INFO server", resp.ErrProtocol.Error()},
		{Options{}, "$90000\r\n" + strings.Repeat("x", 90000) + "\r\n", "INFO server", resp.ErrProtocol.Error()},
		{Options{Password: "p", DB: 3}, "+OK\r\n", "AUTH p SELECT 3 INFO server", "EOF"},
	} {
		here, there := net.Pipe()
		asked := make(chan string, 1)
		go func() {
			defer there.Close()
			b := make([]byte, 1<<10)
			n, _ := there.Read(b)
			_, _ = there.Write([]byte(test.answer))
			var words []string
			for line := range bytes.Lines(b[:n]) {
				if line[0] != '*' && line[0] != '$' {
					words = append(words, strings.TrimSpace(string(line)))
				}
			}
			asked <- strings.Join(words, " ")
		}()
		process, err := test.Options.greet(here)
		here.Close()
		if got := <-asked; got != test.asks {
			t.Errorf("%+v: asked %q", test.Options, got)
		}
		if test.want == "" && (err != nil || process != "abc") || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: %v, want %q", test.Options, err, test.want)
		}
	}
}
