package stack

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Overrides are changes to a running stack that its stack file does not have. They stay in force
// until they are taken back, or until the file gives the same key another value.
//
// Overrides also describe a change to Overrides; then the zero value of an entry takes the entry
// back.
type Overrides struct {
	// Nodes are numbers of nodes, by application; in a change, 0 takes one back.
	Nodes map[string]int `json:"nodes,omitempty"`
	// Programs are programs that replace the file's, by application; in a change, one without a
	// command takes it back.
	Programs map[string]Program `json:"programs,omitempty"`
	// Releases are the digests of the copies that applications run from (App.Digest); in a change,
	// "" takes one back.
	Releases map[string]string `json:"releases,omitempty"`
	// Drained are nodes that get no requests; in a change, false takes one back.
	Drained map[string]bool `json:"drained,omitempty"`
}

// Program is an application's program after a rollout.
type Program struct {
	Command []string          `json:"command"`
	Dir     string            `json:"dir,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
}

// Apply returns the stack with the overrides. It ignores overrides of applications that the stack
// does not have.
func (o Overrides) Apply(s Stack) Stack {
	s = s.WithNodes(o.Nodes)
	for name, app := range s.Apps {
		if p, there := o.Programs[name]; there && app.Kind() == Command {
			app.Command, app.Dir, app.Env = p.Command, p.Dir, p.Env
		}
		if app.Release != "" {
			app.Digest = o.Releases[name]
		}
		s.Apps[name] = app
	}
	return s
}

// WithNodes returns the stack with other numbers of nodes, by application. It also adapts values
// that had followed from the old numbers.
func (s Stack) WithNodes(nodes map[string]int) Stack {
	was := s
	s.Apps = maps.Clone(s.Apps)
	for name, app := range s.Apps {
		if n := nodes[name]; n > 0 && !app.Kind().Elsewhere() {
			app.Nodes = n
			s.Apps[name] = app
		}
	}
	for name, app := range s.Apps {
		if was.DerivedStreams(name) {
			kv := *app.KV
			kv.Limits.Streams = s.kvStreams(kv)
			app.KV = &kv
			s.Apps[name] = app
		}
	}
	return s
}

// With returns these overrides with a change applied.
func (o Overrides) With(change Overrides) Overrides {
	return Overrides{
		Nodes:    merged(o.Nodes, change.Nodes, func(n int) bool { return n > 0 }),
		Programs: merged(o.Programs, change.Programs, func(p Program) bool { return len(p.Command) > 0 }),
		Releases: merged(o.Releases, change.Releases, func(digest string) bool { return digest != "" }),
		Drained:  merged(o.Drained, change.Drained, func(yes bool) bool { return yes }),
	}
}

// ChangeFrom returns the change that turns others into these overrides.
func (o Overrides) ChangeFrom(others Overrides) Overrides {
	return Overrides{
		Nodes:    changeBack(others.Nodes, o.Nodes),
		Programs: changeBack(others.Programs, o.Programs),
		Releases: changeBack(others.Releases, o.Releases),
		Drained:  changeBack(others.Drained, o.Drained),
	}
}

// changeBack returns the change that turns have into want. It takes back what only have contains.
func changeBack[V any](have, want map[string]V) map[string]V {
	all := map[string]V{}
	for name := range have {
		var none V
		all[name] = none
	}
	maps.Copy(all, want)
	return all
}

func merged[V any](old, change map[string]V, holds func(V) bool) map[string]V {
	all := map[string]V{}
	maps.Copy(all, old)
	maps.Copy(all, change)
	maps.DeleteFunc(all, func(_ string, v V) bool { return !holds(v) })
	return all
}

// DropSuperseded returns the overrides without those that a new stack file supersedes, because it
// gives the key another value or does not have the application.
func (o Overrides) DropSuperseded(old, now Stack) Overrides {
	out := o.With(Overrides{})
	maps.DeleteFunc(out.Nodes, func(name string, _ int) bool {
		return now.Apps[name].Kind() == "" || old.Apps[name].Nodes != now.Apps[name].Nodes
	})
	maps.DeleteFunc(out.Programs, func(name string, _ Program) bool {
		was, is := old.Apps[name], now.Apps[name]
		return is.Kind() != Command || !slices.Equal(was.Command, is.Command) || was.Dir != is.Dir || !maps.Equal(was.Env, is.Env)
	})
	maps.DeleteFunc(out.Releases, func(name string, _ string) bool {
		return now.Apps[name].Release == "" || old.Apps[name].Release != now.Apps[name].Release
	})
	return out
}

// Changed returns the overrides that were not in force before.
func (o Overrides) Changed(before Overrides) Overrides {
	changed := o.With(Overrides{})
	maps.DeleteFunc(changed.Nodes, func(name string, n int) bool { return before.Nodes[name] == n })
	maps.DeleteFunc(changed.Programs, func(name string, p Program) bool { return reflect.DeepEqual(before.Programs[name], p) })
	return changed
}

// Check returns an error if the overrides do not fit the stack.
func (o Overrides) Check(s Stack) error {
	for _, name := range sortedKeys(o.Nodes) {
		app, there := s.Apps[name]
		switch n := o.Nodes[name]; {
		case !there:
			return fmt.Errorf("the stack has no application %q", name)
		case app.Kind().Elsewhere():
			return fmt.Errorf("the nodes of %s run elsewhere (%s): Holdfast cannot start more of them", name, app.Kind())
		case n < 1 || n > maxNodes:
			return fmt.Errorf("%s would have %d nodes; it can have 1 to %d", name, n, maxNodes)
		}
	}
	for _, name := range sortedKeys(o.Programs) {
		if s.Apps[name].Kind() != Command {
			return fmt.Errorf("the stack has no application %q with a command", name)
		}
	}
	return validOverrides(o.Apply(s))
}

// validOverrides returns the mistakes that a stack file with these values would have. Ports for
// nodes that the stack no longer has are no mistake here.
func validOverrides(s Stack) error {
	for name, app := range s.Apps {
		app.Ports = app.Ports[:min(len(app.Ports), app.Nodes)]
		s.Apps[name] = app
	}
	_, _, err := Parse("", s.Show())
	var wrong Mistakes
	if !errors.As(err, &wrong) {
		return err
	}
	var all []error
	for _, m := range wrong { // the line is of a file that nobody has
		all = append(all, errors.New(m.What))
	}
	return errors.Join(all...)
}
