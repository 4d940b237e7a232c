package drill

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/kubectl"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// fakeKubectl returns a cluster whose kubectl is a script.
func fakeKubectl(t *testing.T, script string) kubectl.Cluster {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubectl")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return kubectl.Cluster{Program: path, Namespace: "space"}
}

func TestFaultsArePodsOrProcesses(t *testing.T) {
	here := Config{Stack: stack.Default(), Faults: []string{"delete-web"}}
	there := Config{Stack: stack.Default(), Pods: &Pods{}, Faults: []string{"kill-web"}}
	for want, c := range map[string]Config{"it strikes a stack in Kubernetes": here, "this one runs in Kubernetes": there} {
		var refused *RefusedError
		if err := c.Check(); !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", c.Faults, err)
		}
	}
	for _, c := range []Config{{}, {Pods: &Pods{}}} {
		c.Stack = stack.Default()
		chosen, left := c.defaultFaults()
		if len(chosen) < 5 || len(left) > 0 && c.Pods != nil {
			t.Errorf("the standard course has %d faults, and %v are left out", len(chosen), left)
		}
		for _, f := range chosen {
			if f.pods != (c.Pods != nil) {
				t.Errorf("%s is in the standard course of the other kind", f.name)
			}
		}
	}
	c := Config{Stack: stack.Default(), Pods: &Pods{}, Faults: []string{"kill-master"}}
	if chosen, err := c.pool(); err != nil || !chosen[0].pods {
		t.Errorf("kill-master in Kubernetes strikes processes here: %v", err)
	}
	c = Config{Stack: stack.Default(), Faults: []string{"kill-master"}}
	if chosen, err := c.pool(); err != nil || chosen[0].pods {
		t.Errorf("kill-master here strikes pods: %v", err)
	}
}

func TestWhichStackOfANamespaceIsDrilled(t *testing.T) {
	pods := func(stacks ...string) string {
		var items []string
		for _, s := range stacks {
			items = append(items, `{"metadata": {"name": "`+s+`-web-1", "labels": {"app.kubernetes.io/instance": "`+s+`"}}, "spec": {"volumes": [{"configMap": {"name": "`+s+`"}}]}, "status": {}}`)
		}
		return `{"items": [` + strings.Join(items, ",") + `]}`
	}
	script := func(pods string) string {
		return "case \"$*\" in */configmaps/*) printf '%s' '{\"data\": {\"holdfast.yaml\": \"name: shop\\nredis: {replicas: 4}\\n\"}}';; *) echo '" + pods + "';; esac\n"
	}
	name, s, err := FindPods(t.Context(), fakeKubectl(t, script(pods("shop"))), "")
	if err != nil || name != "shop" || s.Redis.Replicas != 4 {
		t.Errorf("one stack: %s, %d replicas, %v", name, s.Redis.Replicas, err)
	}
	for want, text := range map[string]string{
		"has no pod":                              script(pods()),
		"several stacks: say by --stack which":    script(pods("shop", "till")),
		"look for a stack in the namespace space": "echo 'Error from server (Forbidden): no' >&2; exit 1",
	} {
		var refused *RefusedError
		if _, _, err := FindPods(t.Context(), fakeKubectl(t, text), ""); !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func TestARightThatIsMissingRefusesTheDrill(t *testing.T) {
	c := Config{Stack: stack.Default(), Faults: []string{"drain-node"}}
	c.Pods = &Pods{Cluster: fakeKubectl(t, `case "$*" in *"patch nodes") echo no; exit 1;; *) echo yes;; esac`)}
	var refused *RefusedError
	if err := c.requireRights(t.Context()); !errors.As(err, &refused) || !strings.Contains(err.Error(), `"patch nodes"`) {
		t.Errorf("%v", err)
	}
	c.Faults = []string{"delete-web"} // drains no machine
	if err := c.requireRights(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPodsAreWellWhenEachWorkloadHasAllOfThem(t *testing.T) {
	web := kubectl.Workload{Kind: "deployment", Name: "shop-web", Component: "web", Replicas: 1, Settled: true}
	pod := kubectl.Pod{Name: "shop-web-1", Component: "web", Node: "node1", Ready: true}
	changed := func(change func(*kubectl.Pod)) []kubectl.Pod {
		p := pod
		change(&p)
		return []kubectl.Pod{p}
	}
	rolled := web
	rolled.Settled = false
	for want, c := range map[string]struct {
		w    []kubectl.Workload
		pods []kubectl.Pod
	}{
		"":              {[]kubectl.Workload{web}, []kubectl.Pod{pod}},
		"no Deployment": {nil, []kubectl.Pod{pod}},
		"has 0 of 1":    {[]kubectl.Workload{web}, nil},
		"has 2 of 1":    {[]kubectl.Workload{web}, []kubectl.Pod{pod, pod}},
		"is ending":     {[]kubectl.Workload{web}, changed(func(p *kubectl.Pod) { p.Ending = true })},
		"not ready":     {[]kubectl.Workload{web}, changed(func(p *kubectl.Pod) { p.Ready = false })},
		"no machine":    {[]kubectl.Workload{web}, changed(func(p *kubectl.Pod) { p.Node = "" })},
		"rolled out":    {[]kubectl.Workload{rolled}, []kubectl.Pod{pod}},
	} {
		if got := unready(c.w, c.pods); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("want %q: %q", want, got)
		}
	}
	two := map[string]supervise.NodeStatus{"a": {Role: "master"}, "b": {Role: "master"}}
	if got := masterAmong(two); got != "" {
		t.Errorf("of two masters it is %s", got)
	}
}

func TestPodsThatEndByThemselvesAreNoticed(t *testing.T) {
	w := &podWatcher{began: time.Now().Add(-time.Minute)}
	pods := []kubectl.Pod{{Name: "a", UID: "1"}, {Name: "b", UID: "2", Node: "node2"}, {Name: "c", UID: "3"}}
	w.look(pods)
	w.look([]kubectl.Pod{{Name: "a", UID: "9"}, {Name: "b", UID: "2", Ending: true}, {Name: "c", UID: "3", Restarts: 1}})
	w.look([]kubectl.Pod{{Name: "a", UID: "9"}, {Name: "c", UID: "3", Restarts: 1}})
	seen := func(faults ...history.Fault) (nodes []string) {
		for _, n := range w.notices(faults) {
			nodes = append(nodes, n.Node)
		}
		slices.Sort(nodes)
		return nodes
	}
	if got := seen(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("with no fault: %v", got)
	}
	if got := seen(history.Fault{Targets: []string{"a", "node2"}, Healthy: -1}); !slices.Equal(got, []string{"c"}) {
		t.Errorf("a fault struck a and the machine of b: %v", got)
	}
	if got := seen(history.Fault{Anything: true, Healthy: -1}); got != nil {
		t.Errorf("a fault that may strike anything: %v", got)
	}
	if got := seen(history.Fault{Anything: true, Began: 2 * time.Minute, Healthy: -1}); len(got) != 3 {
		t.Errorf("a fault that came later: %v", got)
	}
}

func TestACommandOfTheUsersOwnIsAFault(t *testing.T) {
	c := Config{Stack: stack.Default(), Commands: []string{"echo done"}}
	chosen, err := c.pool()
	if err != nil || len(chosen) != 1 || chosen[0].command != "echo done" {
		t.Fatalf("%v, %v", chosen, err)
	}
	strike := func(command string) history.Fault {
		record := history.Fault{}
		fc := &faultContext{record: &record, began: time.Now(), say: t.Logf}
		if err := commandFault(command).inject(t.Context(), fc); err != nil {
			record.Trouble = err.Error()
		}
		return record
	}
	if r := strike("echo done"); r.Trouble != "" || !strings.Contains(r.Evidence, "it wrote: done") || !r.Anything || len(r.Moments) == 0 {
		t.Errorf("%+v", r)
	}
	if r := strike("echo no; exit 3"); r.Evidence != "" || !strings.Contains(r.Trouble, "exit status 3: no") {
		t.Errorf("%+v", r)
	}
	if got, want := c.repeatCommand(chosen, 1), "--fault-command 'echo done'"; !strings.Contains(got, want) {
		t.Errorf("%s has no %s", got, want)
	}
}

func TestAnEntryIsABaseURL(t *testing.T) {
	for entry, good := range map[string]bool{
		"http://192.0.2.1:30063": true, "http://shop.example/": true,
		"192.0.2.1:30063": false, "https://192.0.2.1": false, "http://192.0.2.1/path": false, "http://u:p@192.0.2.1": false,
	} {
		if err := CheckEntry(entry); (err == nil) != good {
			t.Errorf("%s: %v", entry, err)
		}
	}
}
