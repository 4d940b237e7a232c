package export

import (
	"strings"
	"time"
)

// Service is a stack as a systemd service.
type Service struct {
	Stack string // the stack's name
	// Program is the path of holdfast, File that of the stack file (empty for the
	// built-in stack), Dir the working directory, and State the state directory. All are
	// absolute.
	Program, File, Dir, State string
	// User is the account that a system unit runs as. It is empty for a user unit, which
	// the user's own systemd runs.
	User string
	// Path is the value of PATH with which programs are found. Empty stands for that of
	// systemd.
	Path string
	// LowPorts is true if the stack listens on ports below 1024.
	LowPorts bool
	// OfSeveral is true on a host of a stack of several, and Host is then its name.
	OfSeveral bool
	Host      string
	// Stop is how long the stack may take to go down.
	Stop time.Duration
}

// UnitName returns the name of a stack's unit.
func UnitName(stack string) string {
	if stack == "holdfast" {
		return "holdfast.service"
	}
	return "holdfast-" + stack + ".service"
}

// The unit's template is systemd.qtpl, which qtc makes Go code of (see package plan).
//
//go:generate go tool qtc -skipLineComments

// Unit returns the content of the stack's unit.
func (s Service) Unit() string { return unit(s) }

// Reloads reports whether there is a stack file to apply.
func (s Service) Reloads() bool { return !s.OfSeveral || s.File != "" }

// Up returns the command line that starts the service.
func (s Service) Up() []string {
	if s.OfSeveral {
		// With --joined, a host whose disk was emptied does not begin a new stack.
		return s.call("up", "--joined", "--as", s.Host)
	}
	return s.call("up")
}

// Apply returns the command line that applies the stack file.
func (s Service) Apply() []string { return s.call("apply", "--yes") }

func (s Service) call(words ...string) []string {
	words = append([]string{s.Program}, words...)
	if s.File != "" {
		words = append(words, "--file", s.File)
	}
	return append(words, "--state", s.State)
}

// unitCommand returns a command line in the form of a unit (systemd.service(5), "Command
// lines"). A $ is doubled, because it would begin a variable.
func unitCommand(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = unitWord(strings.ReplaceAll(w, "$", "$$"))
	}
	return strings.Join(quoted, " ")
}

// unitWord returns a word in the form of a unit (systemd.syntax(7), "Quoting"). A % is
// doubled, because it would begin a specifier (systemd.unit(5)).
func unitWord(word string) string {
	word = unitPath(word)
	if word != "" && !strings.ContainsAny(word, " \t\n\"'\\;#") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(word) + `"`
}

// unitPath returns a path for a setting that takes it unquoted, with its spaces.
func unitPath(path string) string { return strings.ReplaceAll(path, "%", "%%") }
