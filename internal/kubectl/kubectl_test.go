package kubectl

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// standIn returns a cluster whose kubectl is a script.
func standIn(t *testing.T, script string) Cluster {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubectl")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return Cluster{Program: path, Context: "tests", Namespace: "space"}
}

func TestACommandIsForOneContextAndNamespace(t *testing.T) {
	c := standIn(t, `echo "$@"`)
	out, err := c.Run(t.Context(), "delete", "pod", "shop-web-1")
	if want := "--context=tests --namespace=space delete pod shop-web-1\n"; err != nil || string(out) != want {
		t.Errorf("it ran %q, %v; want %q", out, err, want)
	}
}

func TestTheContextIsThatOfTheBeginning(t *testing.T) {
	c := standIn(t, `[ "$2 $3" = "config view" ] && echo production`)
	opened, err := Open(t.Context(), c.Program, "space")
	if err != nil || opened.Context != "production" || opened.Namespace != "space" {
		t.Errorf("%+v, %v", opened, err)
	}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "none"), "space"); err == nil || !strings.Contains(err.Error(), "kubectl is needed") {
		t.Errorf("without a program: %v", err)
	}
}

func TestAnErrorHasTheReasonOfTheAPI(t *testing.T) {
	for says, want := range map[string]string{
		"Error from server (TooManyRequests): Cannot evict pod as it would violate the pod's disruption budget.": "TooManyRequests",
		`Error from server (Forbidden): pods is forbidden: User "a" cannot list resource "pods"`:                 "Forbidden",
		"Unable to connect to the server: dial tcp: connection refused":                                          "",
	} {
		c := standIn(t, "cat >&2 <<'END'\n"+says+"\nEND\nexit 1\n")
		err := c.Evict(t.Context(), "shop-web-1")
		var e *Error
		if !errors.As(err, &e) || e.Reason != want || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
		if want != "" && !IsReason(err, want) {
			t.Errorf("%q is not of the reason %s", says, want)
		}
	}
}

func TestWhatACommandInAPodWroteIsThereWhenItFails(t *testing.T) {
	c := standIn(t, `echo '{"ready":false}'; exit 1`)
	out, err := c.Exec(t.Context(), Pod{Name: "shop-redis-0", Container: "holdfast"}, "holdfast", "status")
	if err == nil || strings.TrimSpace(string(out)) != `{"ready":false}` {
		t.Errorf("%q, %v", out, err)
	}
}

func TestWhatTheUserMayNotIsNoError(t *testing.T) {
	for says, want := range map[string]bool{"echo yes": true, "echo no; exit 1": false} {
		if may, err := standIn(t, says).May(t.Context(), "delete pods"); err != nil || may != want {
			t.Errorf("%s: %v, %v", says, may, err)
		}
	}
	if _, err := standIn(t, "exit 1").May(t.Context(), "delete pods"); err == nil {
		t.Error("a cluster that does not answer allows or forbids")
	}
}

const twoPods = `{"items": [
{"metadata": {"name": "shop-redis-1", "uid": "u2", "deletionTimestamp": "2026-11-30T04:00:00Z",
	"labels": {"app.kubernetes.io/instance": "shop", "app.kubernetes.io/component": "redis"}},
 "spec": {"nodeName": "node2", "containers": [{"name": "holdfast", "args": ["pod", "--state=/x"]}],
	"volumes": [{"name": "state", "persistentVolumeClaim": {"claimName": "state-shop-redis-1"}}, {"name": "stack", "configMap": {"name": "shop"}}]},
 "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [{"restartCount": 2}]}},
{"metadata": {"name": "shop-redis-0", "uid": "u1", "labels": {"app.kubernetes.io/instance": "shop", "app.kubernetes.io/component": "redis"}},
 "spec": {}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}},
{"metadata": {"name": "shop-redis-2", "uid": "u3"}, "spec": {}, "status": {"phase": "Failed"}}]}`

func TestPodsAreReadFromTheAPI(t *testing.T) {
	pods, err := standIn(t, "cat <<'END'\n"+twoPods+"\nEND\n").Pods(t.Context(), "shop")
	if err != nil || len(pods) != 2 {
		t.Fatalf("%+v, %v", pods, err)
	}
	if p := pods[0]; p.Name != "shop-redis-0" || !p.Ready || p.Ending || p.Node != "" {
		t.Errorf("%+v", p)
	}
	p := pods[1]
	if p.UID != "u2" || p.Ready || !p.Ending || p.Node != "node2" || p.Restarts != 2 || p.Container != "holdfast" ||
		p.Stack != "shop" || p.Component != "redis" || !slices.Equal(p.Claims, []string{"state-shop-redis-1"}) ||
		!slices.Equal(p.Configs, []string{"shop"}) || !slices.Equal(p.Args, []string{"pod", "--state=/x"}) {
		t.Errorf("%+v", p)
	}
}

func TestAWorkloadIsSettledWhenAllItsPodsAreNew(t *testing.T) {
	for _, c := range []struct {
		kind, text string
		settled    bool
	}{
		{"deployment", `{"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2}}`, true},
		{"deployment", `{"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2}}`, false},
		{"deployment", `{"spec": {"replicas": 2}, "status": {"replicas": 3, "updatedReplicas": 2}}`, false},
		{"deployment", `{"spec": {"replicas": 2}, "status": {"replicas": 2, "updatedReplicas": 1}}`, false},
		{"statefulset", `{"spec": {"replicas": 2}, "status": {"replicas": 2, "currentRevision": "a", "updateRevision": "a"}}`, true},
		{"statefulset", `{"spec": {"replicas": 2}, "status": {"replicas": 2, "currentRevision": "a", "updateRevision": "b"}}`, false},
	} {
		var o workloadObject
		if err := json.Unmarshal([]byte(c.text), &o); err != nil {
			t.Fatal(err)
		}
		if w := o.workload(c.kind); w.Settled != c.settled || w.Replicas != 2 {
			t.Errorf("%s %s: %+v", c.kind, c.text, w)
		}
	}
}

func TestPathsOfTheConfigurationMeanTheSameElsewhere(t *testing.T) {
	got := Environment(func(string) string { return "a:/b" })
	if len(got) != 1 || !strings.HasPrefix(got[0], "KUBECONFIG=/") || !strings.HasSuffix(got[0], "/a:/b") {
		t.Errorf("%q", got)
	}
	if got := Environment(func(string) string { return "" }); got != nil {
		t.Errorf("%q", got)
	}
}
