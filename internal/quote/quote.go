// Package quote makes text that somebody else wrote fit to be shown: answers
// and output of applications, headers, names of files and processes. What
// reaches a terminal, a report or a message goes through Text; what is to be
// pasted into a shell through Shell. How HAProxy and Redis quote is package
// plan's. Pure.
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

// Text is a foreign text as one line of at most Most characters in which
// nothing moves the cursor, changes colours or turns the direction of writing.
func Text(s string) string { return Cut(s, Most) }

// Cut is Text of at most so many characters; what is beyond is a "…".
func Cut(s string, most int) string {
	if enough := utf8.UTFMax * (most + 1); len(s) > enough { // a huge text is not worth quoting whole
		s = s[:enough]
	}
	s = Line(s)
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:max(most-1, 0)]) + "…"
}

// Line is Text of any length: what is not printable, control characters and
// those that turn the direction of writing included, is shown as Go writes it
// (\n, \x1b, \u202e). Most texts are returned as they are.
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

// colours are sequences that change the colour of what follows (ECMA-48, SGR).
var colours = regexp.MustCompile("\x1b\\[[0-9;:]*m")

// Log is a line of a program's log for a terminal. Colours are left out: many
// programs write them, and one that hides text has them, too. Tabs are spaces.
func Log(s string) string {
	if strings.IndexFunc(s, odd) >= 0 {
		s = strings.ReplaceAll(colours.ReplaceAllLiteralString(s, ""), "\t", "    ")
	}
	return Cut(s, longLog)
}

// odd reports whether a character may not be shown as it is. unicode.IsPrint
// leaves out control characters (C0, DEL, C1), format characters (marks of
// direction, zero width) and every space but the plain one.
func odd(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }

// Shell is a word as a POSIX shell reads it back.
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
	// What is not printable must not reach the terminal as it is. $'…' is of
	// POSIX 2024, and of every shell that people type into.
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

// Command is a command line of these words.
func Command(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = Shell(w)
	}
	return strings.Join(quoted, " ")
}
