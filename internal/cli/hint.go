package cli

import (
	"regexp"
	"strings"

	"holdfast/internal/quote"
	"holdfast/internal/supervise"
)

// What is to be typed stands in messages as 'holdfast status', in quotes of any
// kind, wherever the message is made: the packages below do not know how this
// program was called, nor with which stack. hints puts that in.
var hintPattern = regexp.MustCompile("'holdfast ([a-z][^'\n]*)'|\"holdfast ([a-z][^\"\n]*)\"|`holdfast ([a-z][^`\n]*)`")

// hints makes the commands in a message work when they are pasted: with the
// program as it was called, and with the flags that name the stack.
func (g *globals) hints(message string) string {
	if g.background {
		return message // the other half shows it, and knows how it was called
	}
	return hintPattern.ReplaceAllStringFunc(message, func(hint string) string {
		mark := hint[:1]
		command := g.command(strings.TrimPrefix(strings.Trim(hint, mark), "holdfast "))
		// A path in it may need the quotes that are around it.
		for _, other := range []string{"'", `"`, "`"} {
			if strings.Contains(command, mark) {
				mark = other
			}
		}
		return mark + command + mark
	})
}

// command is a command line of this program that concerns the same stack.
func (g *globals) command(args string) string {
	words := []string{quote.Shell(g.self), args}
	file, state := g.stackFlags(args)
	if file && g.file != "" {
		words = append(words, "--file", quote.Shell(g.file))
	}
	if state && g.state != "" {
		words = append(words, "--state", quote.Shell(g.state))
	}
	return strings.Join(words, " ")
}

// stackFlags reports which flags a command needs to find the stack.
func (g *globals) stackFlags(args string) (file, state bool) {
	verb, rest, _ := strings.Cut(args, " ")
	switch {
	case strings.Contains(rest, "--help") || strings.Contains(rest, "--list"):
		return false, false
	case verb == "token" || verb == "web" || verb == "files" || verb == "version" || verb == "completion":
		return false, false
	case verb == "join":
		return false, true
	case verb == "config":
		return true, false
	}
	return true, true
}

// plainLines is a message of several lines without what would move the cursor.
func plainLines(message string) string {
	lines := strings.Split(message, "\n")
	for i, line := range lines {
		lines[i] = quote.Line(line)
	}
	return strings.Join(lines, "\n")
}

// say is a message, perhaps of several lines, as a person sees it.
func (g *globals) say(message string) string { return plainLines(g.hints(message)) }

// remark says why a node is not as it should be, as one line; empty: it is.
func (g *globals) remark(n supervise.NodeStatus) string {
	if n.Detail != "" {
		return g.detail(n)
	}
	if n.Drained {
		return "drained: the balancers send it no requests; " + g.command("undrain "+n.Name) + " puts it back"
	}
	if n.Outdated != "" && n.Excluded == "" {
		return quote.Line(g.hints(n.Outdated))
	}
	return quote.Line(n.Excluded)
}

// detail is why a node's state is what it is, as one line.
func (g *globals) detail(n supervise.NodeStatus) string {
	first, _, _ := strings.Cut(n.Detail, "\n")
	return quote.Line(g.hints(first))
}
