// Package quote makes text that somebody else wrote fit to be shown: answers
// and output of applications, headers, names of files and processes. What
// reaches a terminal, a report or a message goes through Text; what is to be
// pasted into a shell through Shell. How HAProxy and Redis quote is package
// plan's. Pure.
package quote

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Most is how many characters of a foreign text a message shows.
const Most = 200

// Text is a foreign text as one line of at most Most characters in which
// nothing moves the cursor, changes colours or turns the direction of writing:
// what is not printable is shown as Go writes it (\n, \x1b, \u202e), and what is
// beyond the limit as "…".
func Text(s string) string { return Cut(s, Most) }

// Line is Text without a limit, for logs, whose lines are shown whole.
func Line(s string) string { return Cut(s, len(s)) }

// Cut is Text with a limit of so many characters.
func Cut(s string, most int) string {
	var out strings.Builder
	n := 0
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if n++; n > most {
			out.WriteString("…")
			break
		}
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, s[0])
		case printable(r):
			out.WriteRune(r)
		default:
			out.WriteString(escaped(r))
		}
		s = s[size:]
	}
	return out.String()
}

// printable reports whether a character shows as itself and as nothing else.
// unicode.IsPrint leaves out control characters (C0, DEL, C1), format characters
// (bidirectional marks, zero width) and every space but the plain one.
func printable(r rune) bool { return unicode.IsPrint(r) }

func escaped(r rune) string {
	switch r {
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	case '\u00a0':
		return " "
	}
	switch {
	case r < 0x80:
		return fmt.Sprintf(`\x%02x`, r)
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// Shell is a word as a POSIX shell reads it back.
func Shell(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./_-", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	if strings.IndexFunc(word, func(r rune) bool { return !printable(r) }) < 0 && utf8.ValidString(word) {
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
