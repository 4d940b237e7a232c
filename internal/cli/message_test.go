package cli

import (
	"strings"
	"testing"

	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

func TestAHintNamesTheProgramAndTheStack(t *testing.T) {
	plain := &globals{self: "holdfast"}
	other := &globals{self: "bin/holdfast", file: "shop.yaml", state: "/var/lib/shop"}
	spaces := &globals{self: "./the bin/holdfast", file: "my shop.yaml", state: "it's state"}
	for _, c := range []struct {
		g             *globals
		message, want string
	}{
		{plain, "see 'holdfast status'", "see 'holdfast status'"},
		{other, "see 'holdfast status', or 'holdfast down'", "see 'bin/holdfast status --file shop.yaml --state /var/lib/shop', or 'bin/holdfast down --file shop.yaml --state /var/lib/shop'"},
		{other, "'holdfast resume web-1' lets it go on", "'bin/holdfast resume web-1 --file shop.yaml --state /var/lib/shop' lets it go on"},
		{other, "`holdfast token new` makes one", "`bin/holdfast token new` makes one"},
		{other, `as "holdfast token hash" prints it`, `as "bin/holdfast token hash" prints it`},
		{other, "See 'holdfast up --help'.", "See 'bin/holdfast up --help'."},
		{other, "'holdfast drill --list' has them all", "'bin/holdfast drill --list' has them all"},
		{other, "'holdfast config check'", "'bin/holdfast config check --file shop.yaml'"},
		{spaces, "'holdfast down --purge'", `"'./the bin/holdfast' down --purge --file 'my shop.yaml' --state 'it'\''s state'"`},
		{other, "nothing of holdfast status is 'quoted' here", "nothing of holdfast status is 'quoted' here"},
		{&globals{background: true, self: "/x", state: "/s"}, "see 'holdfast status'", "see 'holdfast status'"},
	} {
		if got := c.g.expandCommands(c.message); got != c.want {
			t.Errorf("hints(%q)\ngot  %s\nwant %s", c.message, got, c.want)
		}
	}
}

func TestACurlForAStackWithTokensTakesOne(t *testing.T) {
	g := &globals{self: "holdfast"}
	open := tryCommands(g, "http://127.0.0.1:1", "curl ", &stack.KVApp{})
	if open[0] != `curl "http://127.0.0.1:1/set?key=imooc&value=imooc.com"` {
		t.Errorf("without tokens: %q", open)
	}
	for _, kv := range []stack.KVApp{{Tokens: []stack.Token{{}}}, {TokensFile: "t"}} {
		if closed := tryCommands(g, "http://127.0.0.1:1", "curl ", &kv); !strings.HasPrefix(closed[0], `curl -H "Authorization: Bearer $TOKEN" "http://`) {
			t.Errorf("with tokens: %q", closed)
		}
	}
	if own := tryCommands(g, "http://[::1]:1", "curl ", nil); own[0] != "curl 'http://[::1]:1/'" {
		t.Errorf("a program of the user's own: %q", own)
	}
}

func TestForeignTextForgesNoRow(t *testing.T) {
	const forged = "\x1b[2K\x1b[1Aweb-2  web  up  \u202e\u009b31m\r\nredis-9  master  up"
	g := &globals{self: "holdfast"}
	st := supervise.Status{Nodes: []supervise.NodeStatus{{Name: "web-1", State: supervise.Starting, Detail: forged}}}
	var text, changes strings.Builder
	table(&text, g, st, 0)
	printChanges(&changes, g, st, nil)
	for what, shown := range map[string]string{
		"status": text.String(), "status --watch": changes.String(), "up": nodesNotUp(g, st), "an error": g.renderMessage("it answers " + forged),
	} {
		if strings.ContainsAny(shown, "\x1b\r\u202e\u009b") {
			t.Errorf("%s shows %q", what, shown)
		}
	}
	if n := strings.Count(text.String(), "\n"); n != 2 {
		t.Errorf("a table of one node has %d lines:\n%s", n, text.String())
	}
}
