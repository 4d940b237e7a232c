package resp

import (
	"strconv"
	"strings"
	"testing"
)

func TestAReplyIsSkippedWhenItIsAllThere(t *testing.T) {
	for _, whole := range []string{
		"+OK\r\n", "+\r\n", "-ERR no\r\n", ":0\r\n", ":-9223372036854775808\r\n", "$0\r\n\r\n", "$-1\r\n", "$4\r\n\r\n\r\n\r\n", "*0\r\n", "*-1\r\n",
		"*3\r\n$6\r\nmaster\r\n:7\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$4\r\n6380\r\n$1\r\n7\r\n",
	} {
		for _, rest := range []string{"", "+", "$1\r\nx\r\n"} {
			if n := skip([]byte(whole + rest)); n != len(whole) {
				t.Errorf("%q: %d, want %d", whole+rest, n, len(whole))
			}
		}
		for i := range len(whole) {
			if n := skip([]byte(whole[:i])); n != 0 {
				t.Errorf("%q: %d, and it is cut off", whole[:i], n)
			}
		}
	}
	for _, strange := range []string{
		"x\r\n", "\r\n", "+OK\n", ":\r\n", ":x\r\n", ":99999999999999999999\r\n", "$x\r\n", "$-2\r\n", "$1\r\nxyz", "*-2\r\n", "*1\r\nHTTP/1.1 400\r\n",
		"$9999999999999999\r\n", ":" + strings.Repeat("1", 40), "%1\r\n+a\r\n+b\r\n", "_\r\n",
	} {
		if n := skip([]byte(strange)); n >= 0 {
			t.Errorf("%q: %d, and it is no reply", strange, n)
		}
	}
}

func TestAReplyIsRead(t *testing.T) {
	var r Value
	if rest := r.Read("*6\r\n+OK\r\n$2\r\n\r\n\r\n$-1\r\n:-7\r\n*-1\r\n-ERR no\r\n:1\r\n"); rest != ":1\r\n" {
		t.Fatalf("left is %q", rest)
	}
	all := r.Reply()
	if all.Type() != Array || all.Len() != 6 {
		t.Fatalf("%+v", r)
	}
	for i, want := range []Value{
		{Kind: Text, Text: "OK", simple: true}, {Kind: Text, Text: "\r\n"}, {}, {Kind: Integer, Int: -7}, {}, {Kind: Failure, Text: "ERR no"},
	} {
		got := all.At(i)
		if got.Type() != want.Kind || got.Text() != want.Text || got.Int() != want.Int || got.Simple() != want.simple {
			t.Errorf("%d: %+v, want %+v", i, got.made, want)
		}
	}
}

// skip is how long the reply is that b begins with; 0: it is not all there;
// negative: there is none.
func skip(b []byte) int {
	var k Scanner
	whole, err := k.Whole(b)
	switch {
	case err != nil:
		return -1
	case !whole:
		return 0
	}
	return k.At
}

func TestAReplyIsScannedPieceByPiece(t *testing.T) {
	reply := "*3\r\n$6\r\nmaster\r\n:7\r\n*2\r\n*2\r\n$9\r\n127.0.0.1\r\n$1\r\n7\r\n*0\r\n"
	var k Scanner
	for i := range len(reply) {
		if whole, err := k.Whole([]byte(reply[:i])); whole || err != nil {
			t.Fatalf("after %q: %v, %v", reply[:i], whole, err)
		}
	}
	if whole, err := k.Whole([]byte(reply + "+OK")); !whole || err != nil || k.At != len(reply) {
		t.Errorf("%v, %v at %d", whole, err, k.At)
	}
	var many Scanner // more elements than there can be
	if _, err := many.Whole([]byte("*4294967296\r\n*4294967296\r\n")); err == nil {
		t.Error("an array of arrays without end is a reply")
	}
}

func FuzzScan(f *testing.F) {
	f.Add("*2\r\n$1\r\nx\r\n:1\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		n := skip([]byte(s))
		if n <= 0 {
			return
		}
		var r Value
		if rest := r.Read(s); rest != s[n:] {
			t.Errorf("%q: %q is left, and %q was skipped", s, rest, s[:n])
		}
	})
}

func TestARoleSaysWhetherAMasterIsOne(t *testing.T) {
	type role struct {
		master bool
		offset int64
		online int
	}
	for text, want := range map[string]role{
		"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n": {master: true},
		"*3\r\n$6\r\nmaster\r\n:7123\r\n*2\r\n*3\r\n$9\r\n127.0.0.1\r\n$4\r\n6380\r\n$1\r\n7\r\n*3\r\n$2\r\n::\r\n$1\r\n1\r\n$1\r\n0\r\n": {true, 7123, 2},
		"*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:7123\r\n":                                                   {},
		"*2\r\n$8\r\nsentinel\r\n*1\r\n$1\r\nm\r\n":                                                                                       {},
		"-NOPERM no\r\n":                          {},
		"*3\r\n$6\r\nmaster\r\n:7\r\n":            {},
		"*3\r\n$6\r\nmaster\r\n:7\r\n$1\r\n1\r\n": {},
		"*3\r\n$6\r\nmaster\r\n:x\r\n*0\r\n":      {},
		"*3\r\n$6\r\nmaster\r\n$1\r\n7\r\n*0\r\n": {},
		"*3\r\n$6\r\nMASTER\r\n:7\r\n*0\r\n":      {},
		"*3\r\n$6\r\nmaster\r\n:7\r\n*-1\r\n":     {true, 7, 0},
	} {
		var got role
		if got.master, got.offset, got.online = MasterRole(text); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestANumberIsReadOrRefused(t *testing.T) {
	for _, text := range []string{
		"", "-", "--1", "+", "+1", "+000000000000000000000001", "-+1", "-+00000000000000000000001", "0", "-0", "7", "-7", "007", "1x", "x1", " 1", "1 ", "1_0", "0x1", "/", ":", "\xff", "999999999999999999", "-99999999999999999",
		"-999999999999999999", "1000000000000000000", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", strings.Repeat("1", 40),
	} {
		want, err := strconv.ParseInt(text, 10, 64)
		for _, got := range []func() (int64, bool){func() (int64, bool) { return Number(text) }, func() (int64, bool) { return Number([]byte(text)) }} {
			if n, ok := got(); ok != (err == nil && !strings.HasPrefix(text, "+")) || ok && n != want {
				t.Errorf("%q: %d, %v; want %d, %v", text, n, ok, want, err)
			}
		}
	}
}
