package cli

import (
	"context"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// watched returns what 'status --watch' writes into a pipe while it reads these statuses, one after
// the other.
func watched(t *testing.T, g *globals, all ...supervise.Status) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out strings.Builder
	i := 0
	err := watchStatus(ctx, g, &out, 0, func(context.Context) (supervise.Status, error) {
		if i == len(all) {
			cancel()
			return supervise.Status{}, ctx.Err()
		}
		i++
		return all[i-1], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestAWatchIntoAPipePrintsOnlyChanges(t *testing.T) {
	stack := func(state supervise.State, restarts int) supervise.Status {
		return supervise.Status{Stack: "shop", Supervisor: 7, Ready: state == supervise.Up, Nodes: []supervise.NodeStatus{
			{Name: "redis-1", Kind: plan.Redis, Role: "master", State: supervise.Up},
			{Name: "shop-1", Kind: plan.Web, App: "shop", State: state, Restarts: restarts, Since: time.Unix(1, 0)},
		}}
	}
	up, starting := stack(supervise.Up, 0), stack(supervise.Starting, 0)
	got := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d `).ReplaceAllString(
		watched(t, &globals{}, starting, starting, up, up, up, starting, up, stack(supervise.Up, 1), stack(supervise.Up, 1)), "")
	want := `shop: not ready (supervisor 7)
redis-1 master up
shop-1 shop starting
shop: ready (supervisor 7)
shop-1 shop up
shop: not ready (supervisor 7)
shop-1 shop starting
shop: ready (supervisor 7)
shop-1 shop up
shop-1 shop up (restarts: 1)
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if lines := strings.Count(watched(t, &globals{json: true}, up, up, starting, starting), "\n"); lines != 2 {
		t.Errorf("as JSON: %d lines of one change", lines)
	}
}

func TestRoleIsWhatTheNodeIsInItsStack(t *testing.T) {
	for want, n := range map[string]supervise.NodeStatus{
		"shop":     {Kind: plan.Web, App: "shop"},
		"replica":  {Kind: plan.Redis, Role: "replica"},
		"redis":    {Kind: plan.Redis},
		"balancer": {Kind: plan.Balancer},
	} {
		if got := role(n); got != want {
			t.Errorf("the role of %+v is %q", n, got)
		}
	}
}

func TestDownOfNothingRemovesNothing(t *testing.T) {
	state := filepath.Join(t.TempDir(), "my state")
	for args, want := range map[string]string{
		"down":         "nothing to take down: there is no stack in '" + state + "'\n",
		"down --purge": "nothing to take down, and no data to remove: there is no stack in '" + state + "'\n",
	} {
		got := runIn(t, nil, "", append(strings.Fields(args), "--state", state)...)
		if got.code != 0 || got.stdout != want {
			t.Errorf("%s: %+v", args, got)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(state), "*")); len(left) > 0 {
			t.Errorf("%s made %v", args, left)
		}
	}
}
