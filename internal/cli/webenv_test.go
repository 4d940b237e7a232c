package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/plan"
)

// A node inherits the supervisor's environment. A variable that the plan does not set would come
// from somebody's shell.
func TestAStackSetsEveryVariableOfItsWebNodes(t *testing.T) {
	var out bytes.Buffer
	if err := Run(t.Context(), []string{"plan", "--json", "--state", t.TempDir()}, nil, &out, io.Discard, environment(nil)); err != nil {
		t.Fatal(err)
	}
	var made plan.Plan
	if err := json.Unmarshal(out.Bytes(), &made); err != nil {
		t.Fatal(err)
	}
	nodes := 0
	for _, p := range made.Hosts[0].Processes {
		if p.App != "web" {
			continue
		}
		nodes++
		for _, o := range webOptions {
			if !slices.ContainsFunc(p.Env, func(v string) bool { return strings.HasPrefix(v, o.env+"=") }) {
				t.Errorf("%s: %s is left to the supervisor's environment", p.Node, o.env)
			}
		}
		flags := newWebFlags()
		flags.fill(func(name string) string {
			for _, v := range p.Env {
				if value, ok := strings.CutPrefix(v, name+"="); ok {
					return value
				}
			}
			return ""
		})
		if node, err := flags.node(); err != nil || node.redis.App != p.App {
			t.Errorf("%s: %v; idempotency keys are those of all applications", p.Node, err)
		}
	}
	if nodes == 0 {
		t.Error("the plan has no web node")
	}
}
