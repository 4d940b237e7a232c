package drill

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/history"
	"holdfast/internal/load"
	"holdfast/internal/stack"
)

// parseStack returns the stack that a stack file of this text declares.
func parseStack(t *testing.T, text string) stack.Stack {
	t.Helper()
	s, _, err := stack.Parse("holdfast.yaml", []byte("name: shop\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const (
	oneKV  = "apps: {site: {command: [x]}, store: {kv: {}}}\nroutes: [{path-prefix: [/kv], app: store}, {app: site}]\n"
	twoKVs = "apps: {site: {command: [x]}, store: {kv: {}}, other: {kv: {}}}\nroutes: [{host: [kv], app: store}, {host: [o], app: other}, {app: site}]\n"
	noKV   = "apps: {site: {command: [x]}}\nroutes: [{app: site}]\nredis: {enabled: false}\n"
)

func TestTheApplicationThatIsDrilledIsChosenOrRefused(t *testing.T) {
	for _, c := range []struct{ text, app, want, says string }{
		{oneKV, "", "store", ""},
		{oneKV, "store", "store", ""},
		{oneKV, "site", "", "of kind command, and a drill checks the answers of one of kind kv: store"},
		{oneKV, "shop", "", "no such application; it has site, store"},
		{twoKVs, "", "", "--app which one to drill, other or store"},
		{twoKVs, "other", "other", ""},
		{strings.Replace(twoKVs, "{app: site}", "{app: other}", 1) + "", "", "other", ""},
		{noKV, "", "", "no application of kind kv"},
	} {
		got, err := chooseKV(parseStack(t, c.text), c.app)
		var refused *RefusedError
		switch {
		case c.says == "" && (err != nil || got != c.want):
			t.Errorf("%q of\n%s: %q, %v", c.app, c.text, got, err)
		case c.says != "" && (!errors.As(err, &refused) || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%q of\n%s: %v", c.app, c.text, err)
		}
	}
}

func TestWhatAStackCannotHaveIsRefusedByNameAndElseLeftOut(t *testing.T) {
	alone := parseStack(t, oneKV+"redis: {replicas: 0, sentinels: 0}\n")
	for name, want := range map[string]string{
		"kill-master": "redis.replicas", "kill-replica": "redis.replicas", "kill-sentinel": "redis.sentinels",
		"kill-held-web": "redis.replicas", "kill-all-redis": "", "kill-web": "", "kill-supervisor": "",
	} {
		c := Config{Stack: alone, Faults: []string{name}}
		var refused *RefusedError
		if err := c.Check(); want == "" && err != nil || want != "" && (!errors.As(err, &refused) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := Config{Stack: alone}
	chosen, left := c.defaultFaults()
	for _, f := range chosen {
		if slices.Contains(left, f.name) || f.needs&needReplica != 0 {
			t.Errorf("%s is drilled", f.name)
		}
	}
	if !slices.Contains(left, "kill-master") || slices.Contains(left, "cut-host") || len(chosen) == 0 {
		t.Errorf("left out are %v", left)
	}
	if left := (Config{Stack: stack.Default()}).leftOut(); len(left) > 0 {
		t.Errorf("of the default stack are left out %v", left)
	}
}

func TestURLsLeadToApplicationsByTheRoutes(t *testing.T) {
	s := parseStack(t, twoKVs)
	target, err := loadTargetOfURLs(s, []load.URL{{Method: "GET", Path: "/cart"}, {Method: "GET", Host: "kv", Path: "/get/x"}, {Method: "POST", Path: "/"}})
	if err != nil || target.app != "" || !slices.Equal(target.apps, []string{"site", "store"}) {
		t.Errorf("%+v, %v", target, err)
	}
	var refused *RefusedError
	if _, err := loadTargetOfURLs(s, []load.URL{{Method: "GET", Path: "/web-app"}}); !errors.As(err, &refused) {
		t.Errorf("the statistics: %v", err)
	}
}

// For a user's own program, the balancers repeat a request only if that does no harm.
func TestLessIsPromisedToURLs(t *testing.T) {
	ofKeys := loadTarget{app: "store"}
	ofURLs := loadTarget{urls: []load.URL{{Method: "POST", Path: "/"}}}
	for _, f := range faults {
		if got := ofKeys.promise(f); got != f.promise {
			t.Errorf("%s promises %+v", f.name, got)
		}
		got := ofURLs.promise(f)
		if got.Failed == history.None || got.Unknown == history.None || got.Pause != f.promise.Pause {
			t.Errorf("%s promises %+v to URLs", f.name, got)
		}
		if f.promise.Failed == history.Any && got.Unknown != history.Any {
			t.Errorf("%s: what fails with a 503 of the program's own may have been done, and it promises %+v", f.name, got)
		}
	}
	if got := ofURLs.promise(pauseWeb); got.Failed != history.CutOff {
		t.Errorf("a node that hangs promises %+v", got)
	}
}

// A fault of Redis has to declare that it needs Redis: otherwise it would strike nothing.
func TestEveryFaultOfRedisSaysSo(t *testing.T) {
	s := parseStack(t, noKV)
	target := loadTarget{apps: []string{"site"}}
	for _, f := range faults {
		ofRedis := slices.Contains([]string{"switchover-kill-supervisor", "kill-master-and-supervisor", "backup-kill-supervisor", "apply-redis-kill-supervisor", "lose-supervisor-host"}, f.name)
		strikes := strings.Contains(f.name, "web") || strings.Contains(f.name, "balancer") || strings.Contains(f.name, "supervisor") && !ofRedis ||
			slices.Contains([]string{"scale", "rollout", "bad-rollout", "rollout-kill-node", "apply", "upgrade-host", "roll", "delete-all"}, f.name)
		if strikes != (target.missingFor(s, f) == "") && f.name != "kill-held-web" {
			t.Errorf("%s: %q", f.name, target.missingFor(s, f))
		}
	}
}

func TestWhatANodeDidIsWhatItDidSince(t *testing.T) {
	before := workCounters{{"web-1", "balancer-1"}: 4, {"web-2", "balancer-1"}: 3, {"redis-1", "redis-1"}: 9}
	now := workCounters{
		{"web-1", "balancer-1"}: 7, {"web-2", "balancer-1"}: 3,
		{"web-2", "balancer-2"}: 5000, // it did not answer before
		{"redis-1", "redis-1"}:  2,    // it was restarted
		{"redis-2", "redis-2"}:  6,
	}
	if got := now.since(before); len(got) != 1 || got["web-1"] != 3 {
		t.Errorf("%v", got)
	}
}

func TestAScriptIsNoFaultWhereNoneRuns(t *testing.T) {
	for _, c := range []struct {
		scripts         string
		reading, writes bool
	}{{"off", false, false}, {"read", true, false}, {"on", true, true}} {
		s := stack.Default()
		s.Apps["web"].KV.Scripts = c.scripts
		target := loadTarget{app: "web", apps: []string{"web"}}
		for f, able := range map[*fault]bool{&busyScript: c.reading, &busyWritingScript: c.writes, &slowCommand: true} {
			if why := target.missingFor(s, *f); (why == "") != able || why != "" && !strings.Contains(why, "kv.scripts: "+c.scripts) {
				t.Errorf("scripts: %s: %s is refused with %q", c.scripts, f.name, why)
			}
		}
	}
}
