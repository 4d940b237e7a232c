package redis

import (
	"slices"
	"strings"
	"testing"

	rules "holdfast/internal/commands"
	"holdfast/internal/redis/redistest"
)

// What a script can do is what its client can do by commands: for every command of
// this Redis that a script may carry out at all, the rights of the Redis users of
// scripts and the rule of the web nodes say the same. docs/web.md tells of the
// exceptions that stand here.
func TestTheRightsOfScriptsAreThoseOfTheirClients(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 0, 0)
	node := cluster.Nodes[0]
	client := open(t, cluster, asScripts)
	may := func(user string, spec *Spec) bool {
		words := strings.Split(spec.Name, "|")
		for n := max(spec.Arity, -spec.Arity); len(words) < n; {
			words = append(words, "0")
		}
		return node.Do(append([]string{"ACL", "DRYRUN", user}, words...)...) == "OK"
	}
	names := strings.Fields(node.Do("COMMAND", "LIST"))
	if len(names) < 350 {
		t.Fatalf("Redis has only %q", names)
	}
	writers, readers := 0, 0
	for _, name := range names {
		spec := specOf(t, client, strings.ReplaceAll(name, "|", " "))
		if name = strings.ToLower(name); spec == nil || spec.Name != name {
			t.Errorf("%s is unknown", name)
			continue
		}
		rule, _ := rules.Judge(rules.Command{
			Name: name, Container: spec.Container(), Dangerous: spec.Dangerous || spec.Admin, Blocking: spec.Blocking, Stateful: spec.Stateful,
		}, true)
		runs := strings.HasPrefix(name, "eval") || strings.HasPrefix(name, "fcall") // it is noscript, and what the users are for
		if spec.NoScript && !runs || spec.Container() {
			continue
		}

		want := rule == rules.Free || spec.Blocking // in a script nothing waits
		switch name {
		case "copy": // with DB it leads out of the database
			want = false
		case "wait", "waitaof": // which scripts of newer servers may call, and which do nothing there
			want = false
		case "select": // the one database
			want = true
		}
		if got := may(redistest.ScriptUser, spec); got != want {
			t.Errorf("a script of who may write may use %s: %v", name, got)
		} else if got {
			writers++
		}

		want = want && (spec.ReadOnly && name != "scan" || runs || slices.Contains([]string{"ping", "echo", "time", "select"}, name))
		if got := may(redistest.ReadScriptUser, spec); got != want {
			t.Errorf("a script of who may only read may use %s: %v", name, got)
		} else if got {
			readers++
		}
	}
	if writers < 150 || readers < 70 || readers >= writers {
		t.Errorf("%d commands of those who write, %d of those who only read", writers, readers)
	}
}

// A newer server has commands that this version has not heard of. Each needs somebody to
// say what it is (package commands, and the lists of this one): this test finds them.
func TestNoCommandOfThisServerIsUnknown(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, func(c *Config) { c.MinAcks = 0 })
	for _, name := range strings.Fields(cluster.Nodes[0].Do("COMMAND", "LIST")) {
		name = strings.ToLower(name)
		spec := specOf(t, client, strings.ReplaceAll(name, "|", " "))
		if spec == nil {
			t.Errorf("%s is unknown", name)
			continue
		}
		rule, why := rules.Judge(rules.Command{
			Name: name, Container: spec.Container(), Dangerous: spec.Dangerous || spec.Admin, Blocking: spec.Blocking, Stateful: spec.Stateful,
		}, true)
		if rule == rules.Never && strings.Contains(why, "does not know") {
			t.Errorf("%s is dangerous or blocks, and nobody has said what it is", name)
		}
		if len(spec.Categories) == 0 && !slices.Contains(rules.Vectors, name) {
			t.Errorf("%s is in no category: no user has a right to it", name)
		}
		if spec.Module && !slices.Contains(rules.Vectors, name) {
			t.Errorf("%s is of a module that nobody knows", name)
		}
	}
}
