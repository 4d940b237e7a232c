package quote

import (
	"os/exec"
	"strings"
	"testing"
	"unicode"
)

func TestNothingForeignMovesTheCursor(t *testing.T) {
	for in, want := range map[string]string{
		"plain text, 'quoted', 日本語": "plain text, 'quoted', 日本語",
		"a\nweb-1  up":              `a\nweb-1  up`,
		"a\r\nb\tc\x00":             `a\r\nb\tc\x00`,
		"\x1b[2J\x1b]0;title\a":     `\x1b[2J\x1b]0;title\a`,
		"\x7f\u009b31m\u0085":       `\x7f\u009b31m\u0085`,
		"\xff\xc3":                  `\xff\xc3`,
		"\u202eevil\u2066\u200b":    `\u202eevil\u2066\u200b`,
		"\u2028\u2029\U000e0001":    `\u2028\u2029\U000e0001`,
		"a\u00a0b":                  `a\u00a0b`,
		"":                          "",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestAForeignTextIsBounded(t *testing.T) {
	for _, s := range []string{strings.Repeat("é\n", 1000), strings.Repeat("\xff", 1000), strings.Repeat("a", Most+1)} {
		if got := Text(s); len([]rune(got)) != Most || !strings.HasSuffix(got, "…") {
			t.Errorf("a long text has %d characters: %q", len([]rune(got)), got)
		}
	}
	if got := Text(strings.Repeat("é", Most)); strings.HasSuffix(got, "…") {
		t.Error("a text that just fits is cut")
	}
}

func TestALogOnATerminalHasNoColoursAndNoTricks(t *testing.T) {
	for in, want := range map[string]string{
		"\x1b[32mINFO\x1b[0m:\tstarted \x1b[1;38;5;9mred\x1b[m": "INFO:    started red",
		"\x1b[2Jgone \x1b]0;title\a\rover \x1b[8":               `\x1b[2Jgone \x1b]0;title\a\rover \x1b[8`,
		"plain": "plain",
	} {
		if got := Log(in); got != want {
			t.Errorf("Log(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("\x1b[31m\r\n\xff")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range Line(s) + Log(s) {
			if !unicode.IsPrint(r) {
				t.Fatalf("Line(%q) has %q", s, r)
			}
		}
	})
}

func TestAShellReadsAWordBack(t *testing.T) {
	for _, word := range []string{
		"plain/path-1.yaml", "", "two words", "it's", `"$HOME" \ !*?~`, "~/x", "new\nline", "\x1b[31m'\\", "日本 語", "\xff", "-f", "#a", "a;b&c|d",
	} {
		quoted := Shell(word)
		if strings.ContainsAny(quoted, "\n\x1b") {
			t.Errorf("Shell(%q) = %q is not fit for a terminal", word, quoted)
		}
		out, err := exec.Command("bash", "-c", "printf '%s.' "+Command(word, word)).Output()
		if err != nil || string(out) != word+"."+word+"." {
			t.Errorf("bash reads Shell(%q) = %s as %q (%v)", word, quoted, out, err)
		}
	}
}
