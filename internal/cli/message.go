package cli

import (
	"regexp"
	"strings"

	"holdfast/internal/quote"
	"holdfast/internal/supervise"
)

// commandPattern matches a command in a message, such as 'holdfast status', in quotes of any kind.
// The packages below write it in this form, because they know neither how the program was called
// nor which stack the flags name. expandCommands adds that.
var commandPattern = regexp.MustCompile("'holdfast ([a-z][^'\n]*)'|\"holdfast ([a-z][^\"\n]*)\"|`holdfast ([a-z][^`\n]*)`")

// expandCommands completes the commands in a message so that they work when they are pasted: with
// the program as it was called, and with the flags that name the stack.
func (g *globals) expandCommands(message string) string {
	if g.background {
		return message // the half in the foreground prints it, and knows how it was called
	}
	return commandPattern.ReplaceAllStringFunc(message, func(hint string) string {
		mark := hint[:1]
		command := g.command(strings.TrimPrefix(strings.Trim(hint, mark), "holdfast "))
		// A path in the command may need the kind of quotes that surrounds it.
		for _, other := range []string{"'", `"`, "`"} {
			if strings.Contains(command, mark) {
				mark = other
			}
		}
		return mark + command + mark
	})
}

// command returns a command line of this program for the same stack.
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

// plainLines returns a message of several lines without characters that move the cursor.
func plainLines(message string) string {
	lines := strings.Split(message, "\n")
	for i, line := range lines {
		lines[i] = quote.Line(line)
	}
	return strings.Join(lines, "\n")
}

// renderMessage returns a message, perhaps of several lines, for a person to read.
func (g *globals) renderMessage(message string) string { return plainLines(g.expandCommands(message)) }

// nodeNote returns one line on why a node is not as it should be, or "" if it is.
func (g *globals) nodeNote(n supervise.NodeStatus) string {
	if n.Detail != "" {
		return g.nodeDetail(n)
	}
	if n.Drained {
		return "drained: the balancers send it no requests; " + g.command("undrain "+n.Name) + " puts it back"
	}
	if n.Outdated != "" && n.Excluded == "" {
		return quote.Line(g.expandCommands(n.Outdated))
	}
	return quote.Line(n.Excluded)
}

// nodeDetail returns one line on why a node is in its state.
func (g *globals) nodeDetail(n supervise.NodeStatus) string {
	first, _, _ := strings.Cut(n.Detail, "\n")
	return quote.Line(g.expandCommands(first))
}
