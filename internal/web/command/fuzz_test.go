package command

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzPath compares the parser of commands in paths with the standard library's unescaping.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"/get/k", "/set/k%2F/v", "/set/a+b/%00", "//", "/%", "/a//b", "/mget/%zz"} {
		f.Add(path, "EX=1&_token=x&NX", "body")
	}
	f.Fuzz(func(t *testing.T, path, query, body string) {
		if !strings.HasPrefix(path, "/") {
			return
		}
		a := acquireArguments()
		defer releaseArguments(a)
		words, err := a.ReadPath([]byte(path), []byte(query), []byte(body))
		if err != nil {
			return
		}
		cmd := a.Commands()[0]
		for i, segment := range strings.Split(path[1:], "/") {
			if want, err := url.PathUnescape(segment); err != nil || cmd[i] != want || words <= i {
				t.Errorf("%q: word %d of %q is %q, want %q, %v", path, i, cmd, cmd[i], want, err)
			}
		}
		if body != "" && cmd[words] != body {
			t.Errorf("the body is %q in %q", body, cmd)
		}
	})
}

// FuzzBody compares the parser of commands in bodies with the standard library's: that has to
// accept what this one accepts, with the same texts.
func FuzzBody(f *testing.F) {
	for _, body := range []string{`["SET","k","v"]`, `["a",1,1.50,true]`, `[]`, `[["GET","k"],["INCR","n"]]`, `["\u00e9\ud83d\ude00","\ud800"]`, "[\"\xff\"]", `["a"`, `[null]`, `{"a":1}`, `[["a"]] x`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a := acquireArguments()
		defer releaseArguments(a)
		if a.ReadBody(slices.Clone(body)) == nil {
			var want []any
			if err := json.Unmarshal(body, &want); err != nil {
				t.Fatalf("%q is taken, and is no JSON: %v", body, err)
			}
			got := a.Commands()[0]
			if len(got) != len(want) {
				t.Fatalf("%q: %q, want %v", body, got, want)
			}
			for i, w := range want {
				if text, ok := w.(string); ok && got[i] != text {
					t.Errorf("%q: %q, want %q", body, got[i], text)
				}
			}
		}
		b := acquireArguments()
		defer releaseArguments(b)
		if b.readPipeline(slices.Clone(body), 10) == nil {
			var want [][]any
			if err := json.Unmarshal(body, &want); err != nil || len(want) != len(b.Commands()) || len(want) > 10 {
				t.Errorf("%q is taken for %q: %v", body, b.Commands(), err)
			}
		}
	})
}
