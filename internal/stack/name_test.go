package stack

import "testing"

func TestTheNameIsFoundInAFileWithMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"name: shop\napps: [\n":                            "shop",
		"# mine\nbalancers: two\nname: \"shop-2\" # new\n": "shop-2",
		"balancers: two\n":                                 Default().Name,
		"apps:\n  web:\n  name: x\n\tkv: {}\n":             Default().Name,
		"name: a\nname: b\n":                               "",
		"{name: shop, apps: [}":                            "",
		"name: two words\n":                                "",
	} {
		if got := NameIn([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
