package stack

import (
	"regexp"
	"strings"
)

// nameLine is the line of a stack file with the stack's name. flow is the beginning of a file that
// is a single section in braces.
var (
	nameLine = regexp.MustCompile(`(?m)^["']?name["']?[ \t]*:(.*)$`)
	flow     = regexp.MustCompile(`^\s*\{`)
)

// NameIn finds the stack's name in a file that has mistakes, so that messages can name the stack.
// It returns "" if it cannot find the name.
func NameIn(data []byte) string {
	lines := nameLine.FindAllSubmatch(data, -1)
	if len(lines) == 0 && !flow.Match(data) {
		return Default().Name
	}
	if len(lines) != 1 {
		return ""
	}
	value, _, _ := strings.Cut(string(lines[0][1]), " #")
	name := strings.Trim(strings.TrimSpace(value), `"'`)
	if !nameRule.pattern.MatchString(name) {
		return ""
	}
	return name
}
