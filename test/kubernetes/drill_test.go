//go:build linux

package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// drilled is the part of a drill's result that the tests use.
type drilled struct {
	Result string   `json:"result"`
	Why    []string `json:"why"`
	Faults []struct {
		Name     string   `json:"name"`
		Evidence string   `json:"evidence"`
		Pause    float64  `json:"pause_ms"`
		After    struct { // from the fault to the next one
			Failed  int `json:"failed"`
			Unknown int `json:"unknown"`
		} `json:"after"`
	} `json:"faults"`
}

// driller drills the stack of a namespace with the compiled program.
type driller struct {
	program, kubectl, space, url, state string
}

// newDriller makes a program kubectl that reaches the cluster.
func newDriller(t *testing.T, space, url string) driller {
	t.Helper()
	dir := t.TempDir()
	cmd, err := cluster.Kubectl(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, word := range cmd.Args {
		words = append(words, "'"+word+"'")
	}
	path := filepath.Join(dir, "kubectl")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec "+strings.Join(words, " ")+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return driller{holdfast(t), path, space, url, filepath.Join(dir, "state")}
}

// run runs a drill, and returns the result and the exit code.
func (d driller) run(t *testing.T, args ...string) (result drilled, code int) {
	t.Helper()
	words := append([]string{"drill", "--kubernetes", d.space, "--entry", d.url, "--kubectl", d.kubectl, "--state", d.state,
		"--json", "--rate", "20", "--clients", "10"}, args...)
	var complaint strings.Builder
	var out []byte
	for range 5 { // if the machine is too busy for the rate, the drill breaks nothing and reports it
		complaint.Reset()
		cmd := exec.CommandContext(t.Context(), d.program, words...)
		cmd.Stderr = &complaint
		var err error
		out, err = cmd.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if len(out) > 0 {
			break
		}
	}
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatalf("holdfast drill %v: exit code %d, %v\n%s", args, code, err, complaint.String())
	}
	for _, f := range result.Faults {
		t.Logf("%s: %d failed, %d unknown, longest pause %.0f ms\n\t%s", f.Name, f.After.Failed, f.After.Unknown, f.Pause, f.Evidence)
	}
	return result, code
}

// holds runs a drill, and requires the result "holds". If the machine is too busy for the rate, the
// answers still have to be right, but waits do not count.
func (d driller) holds(t *testing.T, args ...string) {
	t.Helper()
	switch result, code := d.run(t, args...); {
	case code == 0 && result.Result == "holds":
	case result.Result == "inconclusive" && len(result.Faults) > 0 && !slices.ContainsFunc(result.Why, func(why string) bool {
		return !strings.HasPrefix(why, "the rate was not reached")
	}):
		t.Logf("inconclusive: %q", result.Why)
	default:
		t.Errorf("exit code %d, %s: %q", code, result.Result, result.Why)
	}
}

func TestDrill(t *testing.T) {
	const space = "stack"
	url := startStack(t, space, 30063)
	d := newDriller(t, space, url)

	t.Run("a request in hand outlives its balancer", func(t *testing.T) { outlivesItsBalancer(t, space, url) })
	for _, faults := range []string{
		"delete-web delete-balancer delete-sentinel delete-replica delete-master",
		"kill-master evict-master force-delete-web force-delete-balancer force-delete-master",
		"drain-node", "roll",
		"lose-volume lose-master-volume", "scale-zero", "delete-all",
	} {
		t.Run(faults, func(t *testing.T) { d.holds(t, strings.Fields(faults)...) })
	}
	if node := kubectl(t, "get", "nodes", "-o", "jsonpath={.items[?(@.spec.unschedulable)].metadata.name}"); node != "" {
		t.Errorf("%s takes no pods after the drills", node)
	}

	run := filepath.Join(t.TempDir(), "kube")
	if out, err := exec.Command("go", "build", "-o", run, "holdfast/test/kube/run").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv("HOLDFAST_KUBE", clusterName)
	for _, what := range []string{"cut", "kill"} { // not the machine that the clients use
		t.Run("a machine: "+what, func(t *testing.T) {
			d.holds(t, "--fault-command", fmt.Sprintf("%s %s 3 8s", run, what))
		})
	}

	t.Run("writes that are lost are found", func(t *testing.T) {
		struck, done := filepath.Join(t.TempDir(), "struck"), filepath.Join(t.TempDir(), "done")
		var all sync.WaitGroup
		all.Go(func() {
			for {
				if _, err := os.Stat(struck); err == nil {
					break
				}
				time.Sleep(100 * time.Millisecond)
				if t.Context().Err() != nil {
					return
				}
			}
			loseKeys(t, url)
			if err := os.WriteFile(done, nil, 0o600); err != nil {
				t.Error(err)
			}
		})
		result, code := d.run(t, "--fault-command", fmt.Sprintf("touch %s; until [ -e %s ]; do sleep 0.1; done", struck, done))
		all.Wait()
		if code != 1 || result.Result != "broken" {
			t.Errorf("keys were deleted, and the drill ends with %d: %s %q", code, result.Result, result.Why)
		}
	})
}

// outlivesItsBalancer deletes a balancer's pod while a request waits there for longer than the pod
// keeps serving, and requires its answer.
func outlivesItsBalancer(t *testing.T, space, url string) {
	if _, err := get(http.DefaultClient, url+"/set/held/1"); err != nil {
		t.Fatal(err)
	}
	pod := kubectl(t, "-n", space, "get", "pods", "-l", "app.kubernetes.io/component=balancer", "-o", "jsonpath={.items[0].metadata.name}")
	address, err := podAddress(t.Context(), space, pod)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: inside.Transport.(*http.Transport).DialContext}}
	entry := "http://" + net.JoinHostPort(address, "6301")
	answer, err := client.Get(entry + "/v1/keys/held")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()

	// The request has to wait, because the client already has the present value.
	ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, entry+"/v1/keys/held?wait=15s", nil)
	if err != nil {
		t.Fatal(err)
	}
	ask.Header.Set("If-None-Match", answer.Header.Get("ETag"))
	strike := time.AfterFunc(time.Second, func() {
		if _, err := tryKubectl(t.Context(), "-n", space, "delete", "pod", pod, "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	defer strike.Stop()
	began := time.Now()
	answer, err = client.Do(ask)
	if err != nil {
		t.Fatalf("after %v, and %s was deleted after one second: %v", time.Since(began).Round(time.Second), pod, err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusNotModified || time.Since(began) < 14*time.Second {
		t.Errorf("%s after %v", answer.Status, time.Since(began).Round(time.Second))
	}
	allReady(t, space)
}

// loseKeys deletes every register of a drill under way, without the drill knowing of it.
func loseKeys(t *testing.T, url string) {
	text, err := get(http.DefaultClient, url+"/v1/keys?limit=500&prefix=holdfast-drill:")
	if err != nil {
		t.Error(err)
		return
	}
	var page struct{ Keys []string }
	if err := json.Unmarshal([]byte(text), &page); err != nil || len(page.Keys) == 0 {
		t.Errorf("the keys of the drill: %q, %v", text, err)
		return
	}
	for _, key := range page.Keys {
		if _, err := get(http.DefaultClient, url+"/del/"+key); err != nil {
			t.Error(err)
			return
		}
	}
}
