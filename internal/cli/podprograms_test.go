package cli

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// A redis pod that ends, for want of one program's password, may take the master with it.
func TestARedisPodStartsWithoutAProgramsPassword(t *testing.T) {
	s, _, err := stack.Parse("holdfast.yaml", []byte("name: shop\nnetwork: trusted\nentry: {listen: 0.0.0.0:6301, auth: none}\n"+
		"apps: {cart: {image: cart}, raw: {image: raw}}\nroutes: [{path-prefix: /raw, app: raw}, {app: cart}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	const password = "fedcba9876543210fedcba9876543210"
	one, broken := t.TempDir(), t.TempDir()
	for dir, text := range map[string]string{one: password + "\n", broken: "short"} {
		if err := os.WriteFile(filepath.Join(dir, "cart"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	for what, c := range map[string]struct {
		dir    string
		kind   plan.Kind
		warned []string // of which applications
		advice string
		err    string
	}{
		"an old template":   {"", plan.Redis, []string{"cart", "raw"}, "Apply the manifests", ""},
		"no directory":      {filepath.Join(one, "none"), plan.Redis, []string{"cart", "raw"}, "secret=shop-cart", ""},
		"one Secret of two": {one, plan.Redis, []string{"raw"}, `restart="kubectl rollout restart statefulset shop-redis"`, ""},
		"a broken password": {broken, plan.Redis, nil, "", "a program's password at Redis is random text"},
		"a Sentinel":        {"", plan.Sentinel, nil, "", ""},
	} {
		seed, err := plan.ParseSeed("0123456789abcdef0123456789abcdef")
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		p := &podProcess{file: s, pod: plan.Pod{Kind: c.kind}, log: slog.New(slog.NewTextHandler(&log, nil))}
		if p.secrets, err = seed.Secrets(s); err != nil {
			t.Fatal(err)
		}
		derived := p.secrets.Programs["raw"]

		if err = p.readPrograms(c.dir); (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", what, err)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != len(c.warned) || !strings.Contains(log.String(), c.advice) {
			t.Errorf("%s: %d warnings, want %d with %q:\n%s", what, n, len(c.warned), c.advice, log.String())
		}
		for _, app := range c.warned {
			if !strings.Contains(log.String(), "application="+app) {
				t.Errorf("%s: no warning of %s", what, app)
			}
		}
		if derived == "" || p.secrets.Programs["raw"] != derived {
			t.Errorf("%s: a program without a Secret has the password %q", what, p.secrets.Programs["raw"])
		}
		if got := p.secrets.Programs["cart"]; err == nil && ((got == password) != (c.dir == one) || got == "") {
			t.Errorf("%s: the program has the password %q", what, got)
		}
	}
}
