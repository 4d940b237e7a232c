package stack

import (
	"net/url"
	"strings"
	"testing"
)

func TestAPageFitsIntoAnAnswerOfHAProxys(t *testing.T) {
	const page = "<p style=\"a: 'b'\">100% (ü), [x]\\{$1}#+\t\x7f</p>\n"
	escaped := EscapePage(page)
	if strings.ContainsAny(escaped, ",()[]{}\\\"'$#+\t\n\x7f") {
		t.Errorf("%q has what means something to HAProxy", escaped)
	}
	if back, err := url.PathUnescape(escaped); err != nil || back != page {
		t.Errorf("it is decoded as %q (%v)", back, err)
	}
	for length, fits := range map[int]bool{longestPage: true, longestPage + 1: false} {
		_, _, err := Parse("x", []byte("entry: {errors: {503: <"+strings.Repeat("a", length-1)+"}}\n"))
		if (err == nil) != fits {
			t.Errorf("a page of %d bytes: %v", length, err)
		}
	}
	// Characters that are escaped count with their escaped length.
	if _, _, err := Parse("x", []byte("entry: {errors: {503: '<"+strings.Repeat("%", longestPage/3)+"'}}\n")); err == nil || !strings.Contains(err.Error(), "x:1:23: entry.errors.503: the page is too large") {
		t.Errorf("a page of percent signs: %v", err)
	}
}

func TestAPageMayHaveAFileOfItsOwn(t *testing.T) {
	s, _, err := Parse("x", []byte("entry:\n  errors:\n    503: ./errors/503.html\n    429: slow.html\n    500: <p>a/b</p>\n"))
	if err != nil {
		t.Fatal(err)
	}
	var files []Reference
	for _, r := range s.References() {
		if r.Kind == PageFile {
			files = append(files, r)
		}
	}
	if len(files) != 2 || files[0].Path != "slow.html" || files[1].Path != "./errors/503.html" || files[1].Key() != "entry.errors.503" {
		t.Fatalf("the files are %+v", files)
	}
	const page = "\n<!doctype html>\r\n<p title='a \"b\" \\ #'>100 %\tü\u0085</p>\n"
	with, err := s.WithPage(files[1], []byte("\ufeff"+page))
	if err != nil {
		t.Fatal(err)
	}
	// The page travels with the stack.
	again, _, err := Parse("y", with.Show())
	if err != nil || again.Entry.Errors["503"] != page || s.Entry.Errors["503"] != "./errors/503.html" {
		t.Errorf("of %q becomes %q, %v", page, again.Entry.Errors["503"], err)
	}
	for says, content := range map[string]string{
		"no page of HTML": "Back soon", "not in UTF-8": "<p>\xff", "too large": "<" + strings.Repeat("a", longestPage), "NUL": "<\x00",
	} {
		if _, err := s.WithPage(files[0], []byte(content)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
}
