package drill

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/attack"
)

// commandsOf returns the commands in those requests that are commands.
func commandsOf(t *testing.T, requests []attack.Request) (all [][]string) {
	t.Helper()
	for _, r := range requests {
		var one []string
		var many [][]string
		switch {
		case r.Path == "/" && json.Unmarshal(r.Body, &one) == nil:
			all = append(all, one)
		case (r.Path == "/pipeline" || r.Path == "/multi-exec") && json.Unmarshal(r.Body, &many) == nil && len(many) > 0:
			all = append(all, many...)
		default:
			t.Errorf("%s %s is no command", r.Path, r.Body[:min(len(r.Body), 100)])
		}
	}
	return all
}

// Afterwards, the keys of an attack are removed by their prefix.
func TestAnAttackIsAboutItsOwnKeysAlone(t *testing.T) {
	const prefix = "holdfast-drill:x:attack:"
	requests := slices.Concat(slowData{prefix: prefix}.commands(300), endlessScripts("EVAL", prefix))
	for _, command := range commandsOf(t, requests) {
		name, keys := command[0], command[1:2]
		switch {
		case name == "SCAN":
			keys = command[3:4]
		case name == "ZUNION":
			keys = command[2 : len(command)-1]
		case name == "BITOP":
			keys = command[2:]
		case name == "EVAL", name == "EVAL_RO":
			keys = command[3:]
		case strings.HasPrefix(name, "SUNION"), name == "COPY":
			keys = command[1:]
		}
		for _, key := range keys {
			if !strings.HasPrefix(key, prefix) && key != "REPLACE" {
				t.Errorf("%s is about %q", name, key)
			}
		}
		if counted := strings.ToLower(name); !slices.Contains(slowNames, counted) && !strings.HasPrefix(name, "EVAL") {
			t.Errorf("%s is not among what is counted", name)
		}
	}
	if n := len(commandsOf(t, slowData{prefix: prefix}.commands(10)[:1])); n != 10 {
		t.Errorf("a pipeline of 10 has %d commands", n)
	}
}

func TestMemoryIsReadAsTheSystemTellsIt(t *testing.T) {
	if n, known := kilobytes("MemTotal:  9 kB\nMemAvailable:   2048 kB\n", "MemAvailable:"); n != 2<<20 || !known {
		t.Errorf("%d, %v", n, known)
	}
	for _, text := range []string{"", "MemAvailable: x kB", "MemAvailable: 5"} {
		if n, known := kilobytes(text, "MemAvailable:"); known {
			t.Errorf("%q says %d", text, n)
		}
	}
}
