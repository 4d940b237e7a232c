package plan

import (
	"strings"
	"testing"

	"holdfast/internal/stack"
)

const testSeed = "0123456789abcdefghijklmnopqrstuv"

func seedOf(t *testing.T, text string) Seed {
	t.Helper()
	seed, err := ParseSeed(text)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

func secretsOf(t *testing.T, seed string, s stack.Stack) Secrets {
	t.Helper()
	secrets, err := seedOf(t, seed).Secrets(s)
	if err != nil {
		t.Fatal(err)
	}
	return secrets
}

func TestASeedIsLongText(t *testing.T) {
	for text, want := range map[string]string{
		testSeed: "", testSeed + "\n": "", testSeed + "\r\n": "",
		"": "empty", "\n": "empty", testSeed[1:]: "31 characters", testSeed[1:] + "\n": "31 characters",
	} {
		_, err := ParseSeed(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
	if seedOf(t, testSeed) != seedOf(t, testSeed+"\n") {
		t.Error("the newline at a file's end makes another seed")
	}
}

// Pods of this version and of later ones have to agree, so these values must never change.
func TestWhatFollowsFromASeedNeverChanges(t *testing.T) {
	s, _, err := stack.Parse("holdfast.yaml", []byte("name: shop\napps: {api: {command: [run], nodes: 1}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := secretsOf(t, testSeed, s)
	for name, c := range map[string]struct{ got, want string }{
		"web":          {got.Web, "aa7272bd46379c95dc33315f7652a8a39a1fe26554e61b9adb70e0450d5042b0"},
		"replication":  {got.Replication, "6b32794bd634265a9f832ef33aaea5966ed6b470eb5e35b4fc628dbda5276ba1"},
		"sentinel":     {got.Sentinel, "65dae3c8a0808273375f044d19de60c895d42724e1834949153fe20c09f52214"},
		"scripts":      {got.Scripts, "f78429cdb158700e55fc242a31b123c213fb5df27291fa2ea63e9f550a99e658"},
		"read-scripts": {got.ReadScripts, "974a8d1355f983339a915a79424b3f49fa7f94b9a162244a6fa4e1b7eeaf578d"},
		"operator":     {got.Operator, "0ac03d638d2f374a43ca7cdd5fde5dbb875546b53077a71d33872994f8b24733"},
		"balancer":     {got.Balancer, "da6057bdd6dc3d882c10bd5a59fed0a18faae74c61a27571d45a4a19911602f3"},
		"drill":        {got.Drill, "24045dbef0004b43a7ffe135d34d1119c39cb2539bf33eb93ad3b385a65c1437"},
		"source":       {got.Source, "aa6d5f6f5a871865c24eb8aa528482c3957ab1cb153b72d65ad12ef3957d3ea1"},
		"sentinel-1":   {got.SentinelIDs["sentinel-1"], "406584c0ecf183d47fae23fb7906efb43d76c1fa"},
		"api":          {got.Programs["api"], "3c992716879dfe297967ff902f9d6b9191a3d6f73b7764132a71df1e72e77008"},
	} {
		if c.got != c.want {
			t.Errorf("%s is %q, want %q", name, c.got, c.want)
		}
	}
}

func TestEachSecretIsOfItsOwn(t *testing.T) {
	s := stack.Default()
	one := secretsOf(t, testSeed, s)
	seen := map[string]string{}
	note := func(name, value string) {
		if other := seen[value]; other != "" || len(value) < 40 {
			t.Errorf("%s is %q, as %s", name, value, other)
		}
		seen[value] = name
	}
	for _, password := range one.passwords() {
		note(password.user, *password.value)
	}
	for node, id := range one.SentinelIDs {
		note(node, id)
	}

	more := s
	more.Redis.Sentinels = 5
	other := secretsOf(t, testSeed, more)
	if other.Web != one.Web || len(other.SentinelIDs) != 5 || other.SentinelIDs["sentinel-2"] != one.SentinelIDs["sentinel-2"] {
		t.Error("two Sentinels more change what was there")
	}
	renamed := s
	renamed.Name = "store"
	if secretsOf(t, testSeed, renamed).Web == one.Web || secretsOf(t, testSeed+"w", s).Web == one.Web {
		t.Error("another stack, or another seed, has the same password")
	}
}

func TestASecretThatTheSeedDoesNotGiveIsMissed(t *testing.T) {
	s, _, err := stack.Parse("holdfast.yaml", []byte("name: shop\napps: {api: {command: [run], nodes: 1}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for lacking, take := range map[string]func(*Secrets){
		"":                                 func(*Secrets) {},
		"lack the password of operator":    func(x *Secrets) { x.Operator = "" },
		"lack the run id of sentinel-2":    func(x *Secrets) { x.SentinelIDs["sentinel-2"] = "" },
		"lack the run id of sentinel-1":    func(x *Secrets) { x.SentinelIDs = nil },
		"lack the password of program api": func(x *Secrets) { delete(x.Programs, "api") },
	} {
		x := secretsOf(t, testSeed, s)
		take(&x)
		if err := x.CheckComplete(s); (err == nil) != (lacking == "") || err != nil && !strings.Contains(err.Error(), lacking) {
			t.Errorf("%v; want %q", err, lacking)
		}
	}
}

func TestAProgramsPasswordIsLettersAndDigits(t *testing.T) {
	for text, good := range map[string]bool{
		testSeed: true, testSeed + "\n": true, strings.Repeat("aZ9", 300): true,
		"": false, testSeed[1:]: false, testSeed + " ": false, testSeed + "@": false, testSeed + "\n" + testSeed: false,
	} {
		got, err := ParseProgramPassword(text)
		if (err == nil) != good || good && got != strings.TrimSpace(text) {
			t.Errorf("%q is %q, %v", text, got, err)
		}
	}
}
