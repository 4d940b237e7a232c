package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheStateDirectoryIsWhereTheEnvironmentSays(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, flag string
		env        map[string]string
		want, err  string
	}{
		{name: "the flag", flag: "/s", env: map[string]string{"HOME": "/h", "XDG_STATE_HOME": "/x"}, want: "/s"},
		{name: "a relative flag", flag: "s", want: filepath.Join(wd, "s")},
		{name: "~ in the flag", flag: "~/s", env: map[string]string{"HOME": "/h"}, want: "/h/s"},
		{name: "~ alone", flag: "~", env: map[string]string{"HOME": "/h"}, want: "/h"},
		{name: "another's ~", flag: "~ann/s", env: map[string]string{"HOME": "/h"}, err: "./~ann/s"},
		{name: "~ without HOME", flag: "~/s", err: "HOME is not set"},
		{name: "a directory called ~", flag: "./~/s", want: filepath.Join(wd, "~/s")},
		{name: "XDG_STATE_HOME", env: map[string]string{"HOME": "/h", "XDG_STATE_HOME": "/x"}, want: "/x/holdfast/shop"},
		{name: "a relative XDG_STATE_HOME", env: map[string]string{"HOME": "/h", "XDG_STATE_HOME": "x"}, want: "/h/.local/state/holdfast/shop"},
		{name: "XDG_STATE_HOME=.", env: map[string]string{"HOME": "/h", "XDG_STATE_HOME": "."}, want: "/h/.local/state/holdfast/shop"},
		{name: "XDG_STATE_HOME with ~", env: map[string]string{"HOME": "/h", "XDG_STATE_HOME": "~/x"}, want: "/h/.local/state/holdfast/shop"},
		{name: "HOME alone", env: map[string]string{"HOME": "/h"}, want: "/h/.local/state/holdfast/shop"},
		{name: "nothing", err: "--state"},
		{name: "a relative HOME", env: map[string]string{"HOME": "h"}, err: `HOME is "h", which is not an absolute path`},
		{name: "nothing that can be used", env: map[string]string{"XDG_STATE_HOME": "x"}, err: `XDG_STATE_HOME is "x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &globals{getenv: environment(c.env)}
			err := pathFlag{&g.state, g.getenv}.Set(c.flag)
			got := ""
			if err == nil {
				got, err = stateDir(g, "shop")
			}
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %q, %v; want %q, %q", got, err, c.want, c.err)
			}
		})
	}
}

func TestAHomeInAFlagIsReplaced(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "shop.yaml"), []byte("name: shop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"config", "check", "--file=~/shop.yaml"}, {"config", "check", "~/shop.yaml"}, {"-f~/shop.yaml", "config", "check"},
	} {
		var stdout, stderr strings.Builder
		code := Main(args, nil, &stdout, &stderr, environment(map[string]string{"HOME": home}))
		if code != 0 || !strings.Contains(stdout.String(), home+"/shop.yaml: ok") {
			t.Errorf("holdfast %v: exit %d, %s%s", args, code, stdout.String(), stderr.String())
		}
	}
}
