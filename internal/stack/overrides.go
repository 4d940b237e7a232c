package stack

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Overrides are what was said of a stack while it ran, and what the stack file does
// not say: they hold until it is taken back, or until the file gives the same key
// another value.
type Overrides struct {
	// Nodes are how many nodes an application has, by application; as a part of a
	// change 0 takes it back.
	Nodes map[string]int `json:"nodes,omitempty"`
	// Programs are other programs than those of the file, by application; as a part
	// of a change one without a command takes it back.
	Programs map[string]Program `json:"programs,omitempty"`
	// Releases are the digests of the copies that applications run from (App.Digest);
	// as a part of a change "" takes it back.
	Releases map[string]string `json:"releases,omitempty"`
	// Drained are nodes that get no requests; as a part of a change false takes it
	// back.
	Drained map[string]bool `json:"drained,omitempty"`
}

// Program is what a rollout brought to an application.
type Program struct {
	Command []string          `json:"command"`
	Dir     string            `json:"dir,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
}

// On is the stack with the overrides. Those of applications that it does not have
// count for nothing.
func (o Overrides) On(s Stack) Stack {
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

// WithNodes is the stack with other numbers of nodes, by application, and with what
// follows from them where it followed from them before.
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

// With is these overrides and what a change says.
func (o Overrides) With(change Overrides) Overrides {
	return Overrides{
		Nodes:    merged(o.Nodes, change.Nodes, func(n int) bool { return n > 0 }),
		Programs: merged(o.Programs, change.Programs, func(p Program) bool { return len(p.Command) > 0 }),
		Releases: merged(o.Releases, change.Releases, func(digest string) bool { return digest != "" }),
		Drained:  merged(o.Drained, change.Drained, func(yes bool) bool { return yes }),
	}
}

// From is the change that makes these overrides of others.
func (o Overrides) From(others Overrides) Overrides {
	return Overrides{
		Nodes:    backFrom(others.Nodes, o.Nodes),
		Programs: backFrom(others.Programs, o.Programs),
		Releases: backFrom(others.Releases, o.Releases),
		Drained:  backFrom(others.Drained, o.Drained),
	}
}

// backFrom is the change that makes want of have: what want does not have is taken back
// by its zero value.
func backFrom[V any](have, want map[string]V) map[string]V {
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

// Rebase leaves out what another stack file decides itself: a key that it gives
// another value, or an application that it does not have.
func (o Overrides) Rebase(old, now Stack) Overrides {
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

// Changed are the overrides that were not in force before.
func (o Overrides) Changed(before Overrides) Overrides {
	changed := o.With(Overrides{})
	maps.DeleteFunc(changed.Nodes, func(name string, n int) bool { return before.Nodes[name] == n })
	maps.DeleteFunc(changed.Programs, func(name string, p Program) bool { return reflect.DeepEqual(before.Programs[name], p) })
	return changed
}

// Check reports what is wrong with the overrides of a stack.
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
	return validOverrides(o.On(s))
}

// validOverrides reports what a stack file with the values of overrides would be
// refused for. Ports of nodes that the stack has no more are no mistake here.
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
	for _, m := range wrong { // its line is of no file that anybody has
		all = append(all, errors.New(m.What))
	}
	return errors.Join(all...)
}
