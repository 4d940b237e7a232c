package stack

import "testing"

func TestAnApplicationIsFoundByTheRoutes(t *testing.T) {
	s := Stack{
		Entry: Entry{Statistics: "/web-app"},
		Routes: []Route{
			{PathPrefix: []string{"/static"}, PathSuffix: []string{".jpg"}, App: "static"},
			{Host: []string{"KV.example"}, App: "store"},
			{Host: []string{"shop.example"}, PathPrefix: []string{"/api"}, App: "api"},
			{App: "web"}, // it takes what the others leave, wherever it is written
			{PathBegins: []string{"/pic"}, App: "static"},
			{PathPrefix: []string{"/put/"}, App: "api"},
			{PathPrefix: []string{"/m"}, Method: []string{"POST"}, App: "api"},
			{PathPrefix: []string{"/m"}, Method: []string{"POST", "GET"}, App: "store"},
			{PathPrefix: []string{"/h"}, Header: map[string][]string{"A": {"b"}}, App: "api"},
		},
	}
	for _, c := range []struct{ host, path, want string }{
		{"x", "/", "web"},
		{"x", "/STATIC/a", "static"},
		{"x", "/static", "static"},
		{"x", "/statics", "web"},
		{"x", "/pictures", "static"},
		{"x", "/put", "web"},
		{"x", "/put/a", "api"},
		{"x", "/m", "store"},
		{"x", "/h", "web"},
		{"x", "/a/b.JPG?size=1", "static"},
		{"x", "/a?b=.jpg", "web"},
		{"kv.example", "/v1/keys", "store"},
		{"kv.EXAMPLE:8080", "/v1/keys", "store"},
		{"kv.example", "/static", "static"},
		{"shop.example", "/api/x", "api"},
		{"shop.example", "/x", "web"},
		{"x", "/api/x", "web"},
		{"x", "/web-app", ""},
		{"x", "/web-app;csv", ""},
		{"x", "/web-apple", "web"},
	} {
		if got := s.AppAt("GET", c.host, c.path); got != c.want {
			t.Errorf("%s%s leads to %q, want %q", c.host, c.path, got, c.want)
		}
	}
}
