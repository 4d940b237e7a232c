package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ran is the result of a command line.
type ran struct {
	code           int
	stdout, stderr string
}

// runIn runs a command line in a directory with the given files.
func runIn(t *testing.T, files map[string]string, stdin string, args ...string) ran {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	var stdout, stderr bytes.Buffer
	noenv := func(string) string { return "" }
	code := Main(args, strings.NewReader(stdin), &stdout, &stderr, noenv)
	return ran{code, stdout.String(), stderr.String()}
}

const (
	brokenFile = "balancer: 3\nredis:\n  replicas: two\n"
	brokenSaid = `shop.yaml:1:1: unknown key "balancer": did you mean "balancers"?
shop.yaml:3:13: redis.replicas is the text "two": write a whole number such as 1
`
)

func TestConfigCheck(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		stdin string
		args  string
		want  ran
	}{
		{
			name: "the default stack", args: "config check",
			want: ran{0, "the built-in default stack: ok (2 balancers, web × 2, redis × 3, 3 Sentinels)\n", ""},
		},
		{
			name: "a file that is right", args: "config check shop.yaml",
			files: map[string]string{"shop.yaml": "apps:\n  site: {files: .}\n  api: {servers: [a:1, b:1, c:1]}\nroutes: [{host: a.example, app: api}, {app: site}]\n"},
			want:  ran{0, "shop.yaml: ok (2 balancers, api × 3, site × 1)\n", ""},
		},
		{
			name: "holdfast.yaml beside it", args: "config check",
			files: map[string]string{"holdfast.yaml": "balancers: 3\n"},
			want:  ran{0, "holdfast.yaml: ok (3 balancers, web × 2, redis × 3, 3 Sentinels)\n", ""},
		},
		{
			name: "every mistake", args: "config check shop.yaml",
			files: map[string]string{"shop.yaml": brokenFile},
			want:  ran{2, "", brokenSaid + "shop.yaml: 2 mistakes\n"},
		},
		{
			name: "-f", args: "-f shop.yaml config check",
			files: map[string]string{"shop.yaml": "name: 5\n"},
			want:  ran{2, "", "shop.yaml:1:7: name is the number 5: write a name of lower-case letters, digits and dashes, a letter first, 32 characters at most, such as web-2\nshop.yaml: 1 mistake\n"},
		},
		{
			name: "a warning is no mistake", args: "config check shop.yaml",
			files: map[string]string{"shop.yaml": "balancers: 1\n"},
			want: ran{0, "shop.yaml: ok (1 balancer, web × 2, redis × 3, 3 Sentinels)\n",
				"warning: shop.yaml:1:12: balancers: with one balancer nobody answers while it is away: write 2\n"},
		},
		{
			name: "standard input", args: "config check -", stdin: "retries: x\n",
			want: ran{2, "", "standard input:1:10: retries is the text \"x\": write a whole number such as 1\nstandard input: 1 mistake\n"},
		},
		{
			name: "no such file", args: "config check shop.yaml",
			want: ran{2, "", "holdfast: read the stack file: open shop.yaml: no such file or directory\n"},
		},
		{
			name: "two files", args: "-f a.yaml config check b.yaml",
			want: ran{2, "", "holdfast: b.yaml and --file a.yaml: name one stack file\n"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := runIn(t, c.files, c.stdin, strings.Fields(c.args)...); got != c.want {
				t.Errorf("%s\ngot  %+v\nwant %+v", c.args, got, c.want)
			}
		})
	}
}

func TestConfigCheckForPrograms(t *testing.T) {
	got := runIn(t, map[string]string{"shop.yaml": brokenFile}, "", "config", "check", "--json", "shop.yaml")
	var answer checked
	if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil {
		t.Fatalf("%v: %s", err, got.stdout)
	}
	if got.code != 2 || got.stderr != "" || answer.OK || answer.File != "shop.yaml" || len(answer.Mistakes) != 2 ||
		answer.Mistakes[1] != (mistake{3, 13, `redis.replicas is the text "two": write a whole number such as 1`}) {
		t.Errorf("got %d %s %+v", got.code, got.stderr, answer)
	}

	got = runIn(t, map[string]string{"shop.yaml": "balancers: 1"}, "", "config", "check", "--json", "shop.yaml")
	want := `{
  "file": "shop.yaml",
  "ok": true,
  "mistakes": [],
  "warnings": [
    {
      "line": 1,
      "column": 12,
      "what": "balancers: with one balancer nobody answers while it is away: write 2"
    }
  ]
}
`
	if got.code != 0 || got.stdout != want {
		t.Errorf("got %+v\nwant %s", got, want)
	}
}

func TestConfigShowIsAStackFile(t *testing.T) {
	shown := runIn(t, map[string]string{"holdfast.yaml": "name: shop\n"}, "", "config", "show")
	if shown.code != 0 || !strings.Contains(shown.stdout, "\nname: shop\n") || !strings.Contains(shown.stdout, "\nretries: 3\n") {
		t.Fatalf("got %+v", shown)
	}
	if again := runIn(t, map[string]string{"holdfast.yaml": shown.stdout}, "", "config", "show"); again != shown {
		t.Errorf("shown again:\n%+v\nwant\n%+v", again, shown)
	}
}

func TestConfigShowOfABrokenFileNamesTheMistakes(t *testing.T) {
	got := runIn(t, map[string]string{"shop.yaml": brokenFile}, "", "config", "show", "-f", "shop.yaml")
	if got.code != 2 || got.stdout != "" || !strings.Contains(got.stderr, brokenSaid) {
		t.Errorf("got %+v", got)
	}
}

func TestConfigSchemaIsJSON(t *testing.T) {
	got := runIn(t, nil, "", "config", "schema")
	var schema map[string]any
	if err := json.Unmarshal([]byte(got.stdout), &schema); err != nil || got.code != 0 {
		t.Fatalf("%v: %+v", err, got)
	}
	if schema["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("schema of %v", schema["$schema"])
	}
}

func TestConfigCheckLooksForWhatTheFileNames(t *testing.T) {
	files := map[string]string{
		"shop.yaml": `apps:
  a: {command: [no-such-program], dir: none}
  b: {command: [./crlf.sh]}
  c: {files: shop.yaml}
  d: {kv: {tokens-file: tokens.yaml}}
  e: {command: [sh, none.sh], dir: .}
routes: [{path-prefix: /a, app: a}, {path-prefix: /b, app: b}, {path-prefix: /c, app: c}, {path-prefix: /d, app: d}, {app: e}]
`,
		"crlf.sh":     "#!/bin/sh\r\n",
		"tokens.yaml": "- {name: a, hash: x}\n",
	}
	got := runIn(t, files, "", "config", "check", "shop.yaml")
	for _, want := range []string{
		"shop.yaml:2:17: apps.a.command: there is no program no-such-program on PATH",
		"shop.yaml:2:40: apps.a.dir: ", "/none does not exist\n",
		"shop.yaml:3:17: apps.b.command: ", "crlf.sh is not executable: chmod +x ",
		"shop.yaml:4:14: apps.c.files: ", "shop.yaml is not a directory\n",
		"shop.yaml:5:25: apps.d.kv.tokens-file: ", "a token file begins with the key tokens",
		"shop.yaml: 5 mistakes\n",
	} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("it lacks %q", want)
		}
	}
	if got.code != 2 || t.Failed() {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}

	if err := os.Chmod("crlf.sh", 0o755); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	Main([]string{"config", "check", "shop.yaml"}, nil, &stdout, &stderr, os.Getenv)
	if !strings.Contains(stderr.String(), "shop.yaml:3:17: apps.b.command: ") || !strings.Contains(stderr.String(), "CRLF") {
		t.Errorf("of a script from Windows: %s", stderr.String())
	}
}
