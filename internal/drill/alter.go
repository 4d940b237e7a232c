package drill

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// alteration is a change of the stack file that an operator could make, and that no client may
// notice.
type alteration struct {
	what string
	// alter makes the change; nil: the file stays as it is.
	alter func(*stack.Stack)
	// restartsNodes: the nodes of the application are restarted although nothing about them
	// changes.
	restartsNodes bool
	// verify checks that the change took effect, by what was seen before it.
	verify func(ctx context.Context, fc *faultContext, app string, before stackSnapshot, now stack.Stack) error
}

// stackSnapshot is what a drill sees of a stack before an alteration.
type stackSnapshot struct {
	workers map[string]int
	nodes   []supervise.NodeStatus // of the application
}

// drillPath is the prefix of the route that a drill adds.
const drillPath = "/holdfast-drill"

// ampleMemory is the memory limit that Redis gets if it had none.
const ampleMemory = 64 << 30

// alterations returns the alterations for a stack file, with the application under load. Each is
// made on top of the ones before.
func alterations(file stack.Stack, app string) []alteration {
	all := []alteration{{
		what: "limits and routes",
		alter: func(f *stack.Stack) {
			f.Timeouts.HTTPKeepAlive += time.Second
			f.Routes = append([]stack.Route{{PathPrefix: []string{drillPath}, App: app}}, f.Routes...)
			alterApp(f, app, func(a *stack.App) { a.Queue += 10_000 })
		},
		verify: func(ctx context.Context, fc *faultContext, _ string, before stackSnapshot, _ stack.Stack) error {
			_, err := fc.verifyReloaded(ctx, before.workers)
			return err
		},
	}}

	if file.Redis.Enabled {
		all = append(all, alteration{
			what: "memory of Redis",
			alter: func(f *stack.Stack) {
				if f.Redis.Memory == 0 {
					f.Redis.Memory = ampleMemory
				} else {
					f.Redis.Memory += 1 << 20
				}
			},
			verify: func(ctx context.Context, fc *faultContext, _ string, _ stackSnapshot, now stack.Stack) error {
				return fc.verifyMemoryLimit(ctx, now.Redis.Memory)
			},
		})
	}

	newEnvironment := alteration{
		what: "another environment",
		verify: func(ctx context.Context, fc *faultContext, _ string, before stackSnapshot, _ stack.Stack) error {
			return fc.verifyReplaced(ctx, before.nodes)
		},
	}

	// A user's own program is restarted as it is: another environment would add a version to its
	// history.
	if newEnvironment.restartsNodes = file.Apps[app].KV == nil; !newEnvironment.restartsNodes {
		newEnvironment.alter = func(f *stack.Stack) {
			alterApp(f, app, func(a *stack.App) { a.KV.Remember += time.Second })
		}
	}

	return append(all, newEnvironment, alteration{
		what:  "one node more",
		alter: func(f *stack.Stack) { *f = f.WithNodes(map[string]int{app: f.Apps[app].Nodes + 1}) },
		verify: func(ctx context.Context, fc *faultContext, app string, _ stackSnapshot, now stack.Stack) error {
			added := fmt.Sprintf("%s-%d", app, now.Apps[app].Nodes)
			st, err := fc.stack.status(ctx)
			if err != nil {
				return err
			}
			n, there := st.Node(added)
			if !there {
				return fmt.Errorf("there is no %s", added)
			}
			return fc.requireBusy(ctx, n)
		},
	})
}

// alterApp alters an application of a stack. Copies of the stack that share its maps are not
// affected.
func alterApp(s *stack.Stack, name string, alter func(*stack.App)) {
	s.Apps = maps.Clone(s.Apps)
	a := s.Apps[name]
	if a.KV != nil {
		kv := *a.KV
		a.KV = &kv
	}
	alter(&a)
	s.Apps[name] = a
}

// verifyMemoryLimit checks that every redis node has this memory limit.
func (fc *faultContext) verifyMemoryLimit(ctx context.Context, memory stack.Bytes) error {
	st, err := fc.stack.status(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	for _, n := range st.Nodes {
		if n.Kind != plan.Redis {
			continue
		}
		is, err := fc.stack.admin(n.Name).Setting(ctx, "maxmemory")
		if err != nil {
			return err
		}
		if is != strconv.FormatInt(int64(memory), 10) {
			return fmt.Errorf("%s was to have maxmemory %d, and has %s", n.Name, memory, is)
		}
	}
	fc.evidence("every redis node has maxmemory %d", memory)
	return nil
}
