package token

import (
	"fmt"
	"strings"
	"testing"
)

const secret = "this is a very secret"

func parse(t *testing.T, text string) *Set {
	t.Helper()
	set, err := Parse("tokens.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestATokenIsFoundByItsHash(t *testing.T) {
	set := parse(t, fmt.Sprintf(`# who may come in
tokens:
  - name: shop
    hash: %s
    mode: read-write
    prefixes: ["shop:", 'session:']
    commands: ["@read", "+SET", -keys, "-@dangerous"]
  - {name: page, hash: "%s", mode: read-only}
`, Hash("token of the shop"), strings.ToUpper(Hash("token of the page"))))
	shop := set.Find([]byte("token of the shop"))
	if shop == nil || shop.Name != "shop" || shop.ReadOnly ||
		fmt.Sprint(shop.Prefixes, shop.Allow, shop.Deny) != "[shop: session:] [@read set] [keys @dangerous]" {
		t.Errorf("shop is %+v", shop)
	}
	page := set.Find([]byte("token of the page"))
	if page == nil || page.Name != "page" || !page.ReadOnly || page.Limited() {
		t.Errorf("page is %+v", page)
	}
	for _, bad := range []string{"", "token of the Shop", Hash("token of the shop")} {
		if set.Find([]byte(bad)) != nil {
			t.Errorf("%q is a good token", bad)
		}
	}
	if all := set.All(); len(all) != 2 || all[0] != shop {
		t.Errorf("all are %v", all)
	}
}

func TestMistakesInTheFileAreNamedWithTheirPlace(t *testing.T) {
	hash := Hash("x")
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "tokens.yaml: there is no token in it"},
		{"an empty list", "tokens: []", "there is no token in it"},
		{"no list", "tokens: 5", "tokens.yaml:1:9: tokens has to be a list"},
		{"a text", "hello", "tokens.yaml:1:1: a token file begins with the key tokens"},
		{"another key", "token:\n  - name: a", `tokens.yaml:1:1: a token file has the key tokens alone, not "token"`},
		{"not YAML", "tokens:\n  - name: a\n   hash: b\n", "tokens.yaml:3:"},
		{"a token in clear", "tokens:\n  - " + secret + "\n", "tokens.yaml:2:5: a token is given by a name and the hash"},
		{"a token for a hash", "tokens:\n  - name: a\n    hash: " + secret, "tokens.yaml:3:11: the hash of token \"a\" is not 64"},
		{"no name", "tokens:\n  - hash: " + hash, "tokens.yaml:2:5: the token has no name"},
		{"no hash", "tokens:\n  - name: a", "tokens.yaml:2:5: the token has no hash"},
		{"a name twice", "tokens:\n  - {name: a, hash: " + hash + "}\n  - {name: a, hash: " + Hash("y") + "}", "tokens.yaml:3:12: a second token is named"},
		{"a hash twice", "tokens:\n  - {name: a, hash: " + hash + "}\n  - {name: b, hash: " + hash + "}", "tokens.yaml:3:21: token \"b\" has the hash of another"},
		{"a blank in a name", "tokens:\n  - {name: a b, hash: " + hash + "}", "tokens.yaml:2:12: the name"},
		{"a mode", "tokens:\n  - name: a\n    hash: " + hash + "\n    mode: rw", "tokens.yaml:4:11: the mode \"rw\""},
		{"a prefix that is none", "tokens:\n  - name: a\n    hash: " + hash + "\n    prefixes: ['']", "tokens.yaml:4:16: an empty prefix"},
		{"no prefixes at all", "tokens:\n  - name: a\n    hash: " + hash + "\n    prefixes: []", "tokens.yaml:4:15: prefixes is empty"},
		{"a prefix alone", "tokens:\n  - name: a\n    hash: " + hash + "\n    prefixes: 'a'", "tokens.yaml:4:15: prefixes has to be a list"},
		{"a command", "tokens:\n  - name: a\n    hash: " + hash + "\n    commands: [get, 'set key']", "tokens.yaml:4:21: token \"a\": \"set key\" is not a command"},
		{"a key", "tokens:\n  - name: a\n    hash: " + hash + "\n    readonly: yes", "tokens.yaml:4:5: a token has no key \"readonly\""},
		{"a key twice", "tokens:\n  - name: a\n    hash: " + hash + "\n    name: b", "tokens.yaml:4:5:"},
		{"a key twice and more", "tokens:\n  - name: a\n    name: b\n    hash: x", "tokens.yaml:4:11: the hash of token \"a\""},
		{"the line of the first", "tokens:\n  - name: a\n    hash: " + hash + "\n    name: b", "the key \"name\" stands on line 2 already"},
		{"no name in braces", "tokens:\n  - {hash: " + hash + "}", "tokens.yaml:2:5: the token has no name"},
		{"an alias", "tokens:\n  - name: a\n    hash: *" + strings.Fields(secret)[4], "tokens.yaml:3:11: hash has to be a text"},
		{"an anchor", "tokens:\n  - name: &x a\n    hash: " + hash, "tokens.yaml:2:11: name has to be a text"},
		{"a tag", "tokens:\n  - name: a\n    hash: !" + strings.Fields(secret)[4] + " x", "tokens.yaml:3:11: hash has to be a text"},
		{"a merge key", "tokens:\n  - <<: {name: a}\n    hash: " + hash, "tokens.yaml:2:5: a token has no key \"<<\""},
		{"deep brackets", "tokens: " + strings.Repeat("[", 500_000), "tokens.yaml:1:41: brackets within more than 32 others: no key of a token file is that deep"},
		{"a list for a name", "tokens:\n  - name: [a]\n    hash: " + hash, "tokens.yaml:2:11: name has to be a text"},
		{"nothing for a name", "tokens:\n  - name:\n    hash: " + hash, "tokens.yaml:2:10: name has to be a text"},
		{"a second document", "tokens: []\n---\ntokens: []", "tokens.yaml:3:1: a second YAML document"},
		{"no UTF-8", "tokens:\n  - name: a\n    prefixes: ['\xff']", "tokens.yaml:3:1: the line is not UTF-8"},
		{"half a surrogate pair", "tokens:\n  - name: a\n    prefixes: [\"x\\uDC00\"]", "tokens.yaml:3:16: an escape in the text stands for no character"},
		{"a number that is no character", "tokens:\n  - name: a\n    prefixes: [\"\\U0000D83D\"]", "tokens.yaml:3:16: an escape in the text stands for no character"},
		{"half a pair before another", "tokens:\n  - name: a\n    prefixes: [\"\\ud83d\\u0041\"]", "tokens.yaml:3:"},
		{"a large file", strings.Repeat("#", maxFile+1), "at most 1048576"},
	} {
		set, err := Parse("tokens.yaml", []byte(c.text))
		if err == nil {
			t.Errorf("%s: taken as %v", c.name, set.All())
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error tells the token: %v", c.name, err)
		}
	}
	_, err := Parse("t", []byte("tokens:\n  - {name: a, hash: b, mode: c}\n  - {name: d, hash: e}\n"))
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three mistakes are told as: %v", err)
	}
	if _, err := New([]Entry{{Name: "a", Hash: hash}, {Name: "b"}}); err == nil || !strings.HasPrefix(err.Error(), "token 2: ") && !strings.Contains(err.Error(), "the hash of token \"b\"") {
		t.Errorf("an entry without a hash: %v", err)
	}
}

func FuzzNoFileBreaksTheParser(f *testing.F) {
	f.Add("tokens:\n  - {name: a, hash: b}\n")
	f.Add("tokens: &a\n  - *a\n  - ? x\n")
	f.Add("tokens:\n- name: |\n    x\n  hash: 1e9\n")
	f.Fuzz(func(t *testing.T, text string) {
		if set, err := Parse("f", []byte(text)); (set == nil) == (err == nil) {
			t.Errorf("%q: %v, %v", text, set, err)
		}
	})
}

func TestRightsOfCommands(t *testing.T) {
	read, write := []string{"read", "string", "fast"}, []string{"write", "string", "slow"}
	for _, c := range []struct {
		what    string
		rights  *Rights
		command string
		only    bool
		classes []string
		want    bool
	}{
		{"nobody's rights are all", nil, "flushall", false, write, true},
		{"all", &Rights{}, "set", false, write, true},
		{"read-only reads", &Rights{ReadOnly: true}, "get", true, read, true},
		{"read-only writes", &Rights{ReadOnly: true}, "set", false, write, false},
		{"read-only writes though it is named", &Rights{ReadOnly: true, Allow: []string{"set"}}, "set", false, write, false},
		{"a class", &Rights{Allow: []string{"@read"}}, "get", true, read, true},
		{"another class", &Rights{Allow: []string{"@read"}}, "set", false, write, false},
		{"a name", &Rights{Allow: []string{"@read", "set"}}, "set", false, write, true},
		{"denied", &Rights{Deny: []string{"set"}}, "set", false, write, false},
		{"not denied", &Rights{Deny: []string{"set"}}, "get", true, read, true},
		{"denied wins", &Rights{Allow: []string{"@all"}, Deny: []string{"@write"}}, "set", false, write, false},
		{"a subcommand by its command", &Rights{Allow: []string{"config"}}, "config|get", false, nil, true},
		{"a subcommand", &Rights{Allow: []string{"config|get"}}, "config|get", false, nil, true},
		{"another subcommand", &Rights{Allow: []string{"config|get"}}, "config|set", false, nil, false},
		{"a name that begins the same", &Rights{Allow: []string{"get"}}, "getdel", false, write, false},
	} {
		if got := c.rights.Command(c.command, c.only, c.classes); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestRightsOfKeysAndPatterns(t *testing.T) {
	limited := &Rights{Prefixes: []string{"shop:", "a*b:"}}
	for key, want := range map[string]bool{
		"shop:1": true, "shop:": true, "shop": false, "Shop:1": false, "": false, "xshop:1": false, "a*b:c": true, "axb:c": false,
	} {
		if got := limited.Key(key); got != want {
			t.Errorf("key %q: %v", key, got)
		}
	}
	for pattern, want := range map[string]bool{
		"shop:*": true, "shop:[ab]?": true, "shop:1": true, "sho*": false, "*": false, "[s]hop:*": false, "?hop:*": false,
		`sh\op:*`: true, `a\*b:*`: true, "a*b:*": false, `shop:\`: true, `shop\`: false, "": false,
	} {
		if got := limited.Pattern(pattern); got != want {
			t.Errorf("pattern %q: %v", pattern, got)
		}
	}
	for _, all := range []*Rights{nil, {}} {
		if !all.Key("x") || !all.Pattern("*") || all.Limited() {
			t.Errorf("%v is limited", all)
		}
	}
}

func TestWhatIsNoToken(t *testing.T) {
	for text, good := range map[string]bool{
		"": false, "short": false, strings.Repeat("x", MinLength): true, strings.Repeat("x", MaxLength+1): false,
		"has a blank in its midst": false, "umlaut-ä-in-its-midst": false, "AbCd-_.~+/=0123456789": true,
	} {
		err := Check(text)
		if (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil && text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q is told: %v", text, err)
		}
	}
}
