package web

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/token"
	"holdfast/internal/web/fair"
)

func TestANodeShowsABalancersCheckOfWhichStackItIs(t *testing.T) {
	store := script(nil)
	ours, _, _ := serveWith(t, Config{SourceSecret: "secret"}, store)
	theirs, _, _ := serveWith(t, Config{SourceSecret: "other"}, store)
	alone, _, _ := serveWith(t, Config{}, store)
	const challenge = "8ec1b9f0-5b8f-4a42-9c5c-2f6c3f4a7a10"
	want := token.Response("secret", challenge)
	for _, c := range []struct {
		what, base string
		header     []string
		want       string
	}{
		{"a check", ours, []string{token.ChallengeHeader, challenge}, want},
		{"another one", ours, []string{token.ChallengeHeader, "x"}, token.Response("secret", "x")},
		{"a check without a challenge", ours, nil, ""},
		{"a client's request, by a balancer", ours, []string{token.ChallengeHeader, challenge, fair.SourceHeader, "secret/10.0.0.1"}, ""},
		{"one that is too long", ours, []string{token.ChallengeHeader, strings.Repeat("x", 65)}, ""},
		{"a node of no stack", alone, []string{token.ChallengeHeader, challenge}, ""},
	} {
		for _, heard := range []time.Time{time.Now(), {}} { // also where the node is not ready
			store.setStatus(&redis.Status{Found: true, Master: "m", Heard: heard})
			if _, header, _ := call(t, "GET", c.base+"/healthz/ready", "", c.header...); header.Get(token.ResponseHeader) != c.want {
				t.Errorf("%s: %q, want %q", c.what, header.Get(token.ResponseHeader), c.want)
			}
		}
	}
	for _, question := range []string{"live", "ready", "master"} {
		if _, header, _ := call(t, "GET", ours+"/healthz/"+question, "", token.ChallengeHeader, challenge); header.Get(token.ResponseHeader) != want {
			t.Errorf("/healthz/%s: the response is %q, want %q", question, header.Get(token.ResponseHeader), want)
		}
	}
	_, header, _ := call(t, "GET", theirs+"/healthz/ready", "", token.ChallengeHeader, challenge)
	if got := header.Get(token.ResponseHeader); got == want || len(got) != len(want) {
		t.Errorf("a node of another stack responds %q", got)
	}
}
