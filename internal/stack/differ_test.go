package stack

import (
	"reflect"
	"testing"
)

func TestDifferencesAreKeysWithBothValues(t *testing.T) {
	old := parsed(t, "apps: {web: {kv: {}}, shop: {command: [run], env: {SECRET: abc}}}\nroutes: [{path-prefix: /shop, app: shop}, {app: web}]\n")
	now := parsed(t, "apps: {web: {kv: {hold: 7s}}, pages: {files: .}, shop: {command: [run, fast], env: {SECRET: xyz}}}\nroutes: [{app: web}]\n")
	var got []string
	for _, d := range Differences(old, now) {
		if len(d.Key) < 11 || d.Key[:11] != "apps.pages." {
			got = append(got, d.String())
		}
	}
	want := []string{
		"apps.shop.command: [run] → [run, fast]", "apps.shop.env.SECRET",
		"apps.web.kv.hold: 5s → 7s", "apps.web.kv.remember: 30s → 32s", "routes",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if d := Differences(old, old); len(d) > 0 {
		t.Errorf("a stack differs from itself: %v", d)
	}
}

func TestDifferencesOfHosts(t *testing.T) {
	const one = "entry: {auth: none}\nhosts: {one: {address: 198.18.7.1}, two: {address: 198.18.7.2}}\n"
	old := parsed(t, one)
	now := parsed(t, "entry: {auth: none, on: [one]}\nhosts: {one: {address: 198.18.8.1}, three: {address: 198.18.7.3, only: sentinel}}\nredis: {sentinels-on: [one, three]}\n")
	var got []string
	for _, d := range Differences(old, now) {
		got = append(got, d.String())
	}
	want := []string{
		"hosts.one.address: 198.18.7.1 → 198.18.8.1", "hosts.three.address: 198.18.7.3", "hosts.three.only: [sentinel]",
		"entry.on: [one]", "redis.sentinels-on: [one, three]", "hosts.two.address: no longer 198.18.7.2",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestOverridesHoldUntilTheFileSaysSomethingElse(t *testing.T) {
	file := parsed(t, "apps: {web: {kv: {}}, shop: {command: [run], release: a}}\nroutes: [{app: web}]\n")
	o := Overrides{}.With(Overrides{
		Nodes:    map[string]int{"web": 4, "shop": 3},
		Programs: map[string]Program{"shop": {Command: []string{"run2"}}},
		Releases: map[string]string{"shop": "0123"},
		Drained:  map[string]bool{"web-1": true},
	})
	if s := o.Apply(file); s.Apps["web"].Nodes != 4 || s.Apps["shop"].Command[0] != "run2" || s.Apps["shop"].Digest != "0123" || file.Apps["web"].Nodes != 2 {
		t.Errorf("%+v, and the file's are %+v", s.Apps, file.Apps)
	}
	if err := o.Check(file); err != nil {
		t.Error(err)
	}
	other := parsed(t, "apps: {web: {kv: {hold: 7s}, nodes: 3}, shop: {command: [run, slow], release: a}}\nroutes: [{app: web}]\n")
	if got := o.DropSuperseded(file, other); len(got.Programs) != 0 || got.Releases["shop"] != "0123" || !reflect.DeepEqual(got.Nodes, map[string]int{"shop": 3}) || !got.Drained["web-1"] {
		t.Errorf("%+v", got)
	}
	back := o.With(Overrides{Nodes: map[string]int{"web": 0}, Programs: map[string]Program{"shop": {}}, Drained: map[string]bool{"web-1": false}})
	if len(back.Nodes) != 1 || len(back.Programs)+len(back.Drained) != 0 {
		t.Errorf("%+v", back)
	}
	for _, wrong := range []Overrides{{Nodes: map[string]int{"none": 1}}, {Nodes: map[string]int{"web": 1000}}, {Programs: map[string]Program{"web": {Command: []string{"x"}}}}} {
		if wrong.Check(file) == nil {
			t.Errorf("%+v is right", wrong)
		}
	}
}
