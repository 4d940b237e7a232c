package cli

import (
	"context"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/control"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// switches is a stack whose redis nodes are redis-1, the master, and redis-2.
type switches struct{ control.Stack }

func (switches) Switchover(ctx context.Context, to string) (supervise.Switched, error) {
	switch to {
	case "redis-3": // until Ctrl-C
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			return supervise.Switched{}, err
		}
		<-ctx.Done()
		return supervise.Switched{}, ctx.Err()
	case "", "redis-2":
		return supervise.Switched{From: "redis-1", To: "redis-2", Waited: 200}, nil
	case "redis-1":
		return supervise.Switched{}, &supervise.RefusedError{Why: "redis-1 is the master already"}
	}
	return supervise.Switched{}, &supervise.UnknownNodeError{Node: to, Kind: plan.Redis, Nodes: []string{"redis-1", "redis-2"}}
}

// serveControl serves the control socket in a state directory until the test ends.
func serveControl(t *testing.T, state string, handler http.Handler) {
	t.Helper()
	stop, err := control.Start(state, handler)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestSwitchoverSaysHowItWentAndWhoIsToBlame(t *testing.T) {
	state, err := os.MkdirTemp("", "hf") // short: unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	t.Chdir(state)
	run := func(args ...string) (code int, out string) {
		var stdout, stderr strings.Builder
		code = Main(append([]string{"switchover", "--state", state}, args...), strings.NewReader(""), &stdout, &stderr, func(string) string { return "" })
		return code, stdout.String() + stderr.String()
	}
	if code, out := run("--to", "redis-2"); code != 1 || !strings.Contains(out, "no supervisor") {
		t.Errorf("without a supervisor: exit code %d, %s", code, out)
	}

	serveControl(t, state, control.Handler(switches{}, nil, nil, nil))
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"", 0, "redis-2 is the master, redis-1 is a replica; writes waited for 200 ms\n"},
		{"--to redis-2", 0, "redis-2 is the master"},
		{"--json", 0, `{"from":"redis-1","to":"redis-2","waited_ms":200}` + "\n"},
		{"--to redis-1", 1, "redis-1 is the master already"},
		{"--to nope", 2, `no redis node is called "nope"; the redis nodes are redis-1, redis-2`},
		{"--to web-1", 2, `no redis node is called "web-1"`},
		{"--to a/b?c&d", 2, `no redis node is called "a/b?c&d"`},
		{"--to redis-1 --json", 1, "redis-1 is the master already"},
		{"--to redis-3", 1, "interrupted: a switchover that has begun goes on; see"},
		{"redis-2", 2, "redis-2"},
		{"--too redis-2", 2, "--too"},
		{"--to", 2, "--to"},
	} {
		if code, out := run(strings.Fields(c.args)...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("switchover %s: exit code %d, %q; want %d, %q", c.args, code, out, c.code, c.want)
		}
	}
}
