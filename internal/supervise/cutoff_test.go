package supervise

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
)

func TestABalancerServesWhenEachApplicationHasAServer(t *testing.T) {
	row := func(backend, server, status, check string) haproxy.Stat {
		return haproxy.Stat{Backend: backend, Server: server, Status: status, CheckStatus: check}
	}
	for _, c := range []struct {
		what string
		rows []haproxy.Stat
		want bool
	}{
		{"nothing to serve", nil, true},
		{"one of two", []haproxy.Stat{row("web", "web-1", "DOWN", "L7STS"), row("web", "web-2", "UP", "L7OK")}, true},
		{"none of one application", []haproxy.Stat{row("web", "web-1", "DOWN", "L7STS"), row("shop", "shop-1", "UP", "L7OK")}, false},
		{"not checked yet", []haproxy.Stat{row("web", "web-1", "UP", "INI")}, false},
		{"no master", []haproxy.Stat{row("web", "web-1", "UP", "L7OK"), row("redis.master", "redis-1", "DOWN", "L7TOUT"), row("redis.master", "redis-2", "DOWN", "L7RSP")}, false},
		{"a master", []haproxy.Stat{row("web", "web-1", "UP", "L7OK"), row("redis.master", "redis-1", "DOWN", "L7TOUT"), row("redis.master", "redis-2", "UP", "L7OK")}, true},
		{"no master alone", []haproxy.Stat{row("redis.master", "redis-1", "UP", "L7OK"), row("redis.master-alone", "redis-1", "DOWN", "L7TOUT")}, true},
		{"a whole proxy is no server", []haproxy.Stat{row("web", "web-1", "UP", "L7OK"), row("web", "BACKEND", "DOWN", "")}, true},
	} {
		if got := servesAll(c.rows); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
	if !serving(t.Context(), t.TempDir()) {
		t.Error("a host without a balancer that answers gives the address away by this file, and not by the other one")
	}
}

func TestKeepalivedIsToldOfACut(t *testing.T) {
	state := t.TempDir()
	dir := filepath.Join(state, "nodes", "keepalived-2")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, plan.CutFile)
	log := slog.New(slog.DiscardHandler)
	if tellCut(state, true, log); exists(path) {
		t.Error("a file is made where keepalived has none")
	}
	if err := os.WriteFile(path, []byte(plan.Well), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []bool{true, true, false} {
		tellCut(state, cut, log)
		text, err := os.ReadFile(path)
		if want := map[bool]string{true: plan.Unwell, false: plan.Well}[cut]; err != nil || string(text) != want {
			t.Errorf("cut off: %v, and the file says %q (%v)", cut, text, err)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
