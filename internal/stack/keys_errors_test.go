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
	// What has to be escaped counts as what it becomes.
	if _, _, err := Parse("x", []byte("entry: {errors: {503: '<"+strings.Repeat("%", longestPage/3)+"'}}\n")); err == nil || !strings.Contains(err.Error(), "x:1:23: entry.errors.503: the page is too large") {
		t.Errorf("a page of percent signs: %v", err)
	}
}
