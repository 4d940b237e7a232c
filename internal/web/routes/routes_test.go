package routes_test

import (
	"slices"
	"testing"

	"holdfast/internal/web/routes"
)

func TestAPathFindsItsRoute(t *testing.T) {
	const nowhere = "" // there is nothing, and it is no command
	for _, c := range []struct {
		path string
		body bool
		want string
	}{
		{"/", false, "/"},
		{"/", true, "/"},
		{"//", false, "//{path}"},
		{"//get", false, "//{path}"},
		{"", false, nowhere},
		{"*", false, nowhere},
		{"get", false, nowhere},

		{"/get", false, "/get"},
		{"/set", false, "/set"},
		{"/get", true, "/{command}"},
		{"/set", true, "/{command}"},
		{"/GET", false, "/{command}"},
		{"/get/", false, "/{command}"},
		{"/get/k", false, "/{command}"},
		{"/sett/k/v", false, "/{command}"},
		{"/ping", false, "/{command}"},
		{"/a-name-longer-than-that-of-any-route/x", false, "/{command}"},
		{"/%67et", false, "/{command}"},

		{"/pipeline", true, "/pipeline"},
		{"/Pipeline", true, "/pipeline"},
		{"/multi-exec", true, "/multi-exec"},
		{"/multi\rexec", true, "/{command}"}, // the hyphen has no case
		{"/pipeline/", true, nowhere},
		{"/multi-exec/x", true, nowhere},
		{"/pipelines", true, "/{command}"},

		{"/subscribe", false, "/subscribe/{channels}"},
		{"/subscribe/", false, "/subscribe/{channels}"},
		{"/SUBSCRIBE/a/b", false, "/subscribe/{channels}"},
		{"/psubscribe/a*", false, "/psubscribe/{patterns}"},
		{"/monitor", false, "/monitor"},
		{"/Monitor", false, "/monitor"},
		{"/monitor/", false, nowhere},
		{"/monitorx", false, "/{command}"},

		{"/healthz/live", false, "/healthz/live"},
		{"/Healthz/master", false, "/healthz/master"},
		{"/healthz/Live", false, "/healthz/{question}"},
		{"/healthz/live/", false, "/healthz/{question}"},
		{"/healthz", false, "/healthz/{question}"},

		{"/v1", false, "/v1/{path}"},
		{"/v1/keysx", false, "/v1/{path}"},
		{"/v1/keys", false, "/v1/keys"},
		{"/v1/keys/", false, "/v1/keys/{key}"},
		{"/v1/keys/a/b", true, "/v1/keys/{key}"},
		{"/V1/keys/a", false, "/v1/{path}"}, // balancers know streams of keys by the small letter
		{"/v1/openapi.json", false, "/v1/openapi.json"},
		{"/v1/openapi.json/", false, "/v1/{path}"},

		{"/metrics", false, "/metrics"},
		{"/metrics/", false, "/{command}"},
		{"/Metrics", false, "/{command}"},
		{"/debug", false, "/{command}"},
		{"/debug/", false, "/debug/{profile}"},
		{"/debug/pprof/heap", false, "/debug/{profile}"},
		{"/Debug/sleep", false, "/{command}"},
	} {
		if got := routes.Find([]byte(c.path), c.body); got.Path != c.want {
			t.Errorf("%q, with a body: %t, is %q, want %q", c.path, c.body, got.Path, c.want)
		} else if c.want == nowhere && got.Missing == "" {
			t.Errorf("%q: there is no text", c.path)
		}
	}
}

func TestFindTakesNoMemory(t *testing.T) {
	for _, path := range []string{"/get/key", "/get", "/SET/k/v", "/", "/v1/keys/k", "/zrange/k/0/1"} {
		p := []byte(path)
		if n := testing.AllocsPerRun(100, func() { routes.Find(p, false) }); n > 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}

func TestBalancersAreToldOfWhatLasts(t *testing.T) {
	for what, c := range map[string]struct{ got, want []string }{
		"streams":                 {routes.Streams(), []string{"/subscribe/", "/psubscribe/", "/monitor"}},
		"answered without master": {routes.Answered(), []string{"/healthz/"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %q, want %q", what, c.got, c.want)
		}
	}
	name, parameters := routes.Lasting()
	for i := range routes.Table {
		if r := &routes.Table[i]; len(r.Lasting) > 0 && (!slices.Equal(r.Lasting, parameters) || r.Path[1:1+len(name)] != name || r.Path[1+len(name)] != '/') {
			t.Errorf("%s lasts by %q, and balancers are told of %q below /%s/ alone", r.Path, r.Lasting, parameters, name)
		}
	}
}

func TestMethodsAreListedAsTheyAreChecked(t *testing.T) {
	r := routes.Find([]byte("/v1/keys/k"), false)
	if got := r.Methods.String(); got != "GET, HEAD, PUT, DELETE" {
		t.Errorf("allowed are %s", got)
	}
	for method, want := range map[string]bool{"GET": true, "HEAD": true, "PUT": true, "DELETE": true, "POST": false, "OPTIONS": false, "get": false, "BREW": false, "": false} {
		if got := r.Methods.Has(routes.Number([]byte(method))); got != want {
			t.Errorf("%s is allowed: %t", method, got)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	paths := [][]byte{[]byte("/get/some-key"), []byte("/get"), []byte("/set"), []byte("/lrange/list/0/-1"), []byte("/")}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		routes.Find(paths[i%len(paths)], false)
	}
}
