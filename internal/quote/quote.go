// Package quote makes text that somebody else wrote safe to show: answers and output of
// applications, headers, names of files and processes. It is pure.
//
// Text is for whatever reaches a terminal, a report or a message. Shell is for what a user pastes
// into a shell. How HAProxy and Redis quote is in package plan.
package quote

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Most is how many characters of a foreign text a message shows.
const Most = 200

// Text returns a foreign text as one line of at most Most characters, in which nothing moves the
// cursor, changes colours or reverses the direction of writing.
func Text(s string) string { return Cut(s, Most) }

// Cut is Text for at most most characters. If the text is longer, it ends in "…".
func Cut(s string, most int) string {
	if enough := utf8.UTFMax * (most + 1); len(s) > enough { // there is no point in quoting all of a huge text
		s = s[:enough]
	}
	s = Line(s)
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:max(most-1, 0)]) + "…"
}

// Line is Text for any length. Characters that are not printable, including control characters and
// those that reverse the direction of writing, become Go escapes (\n, \x1b, \u202e). Most texts are
// returned unchanged.
func Line(s string) string {
	if strings.IndexFunc(s, odd) < 0 {
		return s
	}
	var out strings.Builder
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			out.WriteRune(r)
		default:
			out.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return out.String()
}

// longLog is how many characters of one line of a log a terminal shows.
const longLog = 10_000

// colours matches sequences that change the colour of what follows (ECMA-48, SGR).
var colours = regexp.MustCompile("\x1b\\[[0-9;:]*m")

// Log returns a line of a program's log for a terminal. It removes colours, which many programs
// write, but which can also hide text. Tabs become spaces.
func Log(s string) string {
	if strings.IndexFunc(s, odd) >= 0 {
		s = strings.ReplaceAll(colours.ReplaceAllLiteralString(s, ""), "\t", "    ")
	}
	return Cut(s, longLog)
}

// odd reports whether a character must not be shown as it is. unicode.IsPrint excludes control
// characters (C0, DEL, C1), format characters (marks of direction, zero width) and every space
// except the plain one.
func odd(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }

// Shell returns a word in the form from which a POSIX shell reads the same word.
func Shell(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./_-", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	if strings.IndexFunc(word, odd) < 0 {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	// What is not printable must not reach the terminal. $'…' is part of POSIX 2024, and every
	// common shell knows it.
	var out strings.Builder
	for i := 0; i < len(word); i++ {
		switch c := word[i]; {
		case c == '\'' || c == '\\':
			out.WriteString(`\` + string(rune(c)))
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&out, `\%03o`, c)
		default:
			out.WriteByte(c)
		}
	}
	return "$'" + out.String() + "'"
}

// Command returns a command line of these words.
func Command(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = Shell(w)
	}
	return strings.Join(quoted, " ")
}
