package export

import (
	"strings"
	"time"
)

// Service is a stack as a service of systemd.
type Service struct {
	Stack string // the stack's name
	// Program is the path of holdfast, File that of the stack file (empty: the
	// built-in stack), Dir the working directory, State the state directory. All are
	// absolute.
	Program, File, Dir, State string
	// User is the account that a unit of the system runs as. Empty: it is a unit of
	// a user's own, who has it run by their own systemd.
	User string
	// Path is the value of PATH with which programs are found; empty: systemd's.
	Path string
	// LowPorts is true when the stack listens on ports below 1024.
	LowPorts bool
	// OfSeveral is true on a host of a stack that has several, and Host is its name.
	OfSeveral bool
	Host      string
	// Stop is how long the stack may take until it is down.
	Stop time.Duration
}

// UnitName is the name of the stack's unit.
func UnitName(stack string) string {
	if stack == "holdfast" {
		return "holdfast.service"
	}
	return "holdfast-" + stack + ".service"
}

// The unit's template is systemd.qtpl, which qtc makes Go code of (see package plan).
//
//go:generate go tool qtc -skipLineComments

// Unit is the text of the stack's unit.
func (s Service) Unit() string { return unit(s) }

// Reloads reports whether there is a stack file to apply.
func (s Service) Reloads() bool { return !s.OfSeveral || s.File != "" }

// Up and Apply are the command lines of the service.
func (s Service) Up() []string {
	if s.OfSeveral {
		// A host whose disk was emptied must not begin a stack of its own.
		return s.call("up", "--joined", "--as", s.Host)
	}
	return s.call("up")
}

func (s Service) Apply() []string { return s.call("apply", "--yes") }

func (s Service) call(words ...string) []string {
	words = append([]string{s.Program}, words...)
	if s.File != "" {
		words = append(words, "--file", s.File)
	}
	return append(words, "--state", s.State)
}

// unitCommand is a command line of a unit (systemd.service(5), "Command lines"): a $
// would begin a variable there.
func unitCommand(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = unitWord(strings.ReplaceAll(w, "$", "$$"))
	}
	return strings.Join(quoted, " ")
}

// unitWord is a word of a unit (systemd.syntax(7), "Quoting"): a % would begin a
// specifier (systemd.unit(5)).
func unitWord(word string) string {
	word = unitPath(word)
	if word != "" && !strings.ContainsAny(word, " \t\n\"'\\;#") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(word) + `"`
}

// unitPath is the path of a setting that takes one as it stands, with its spaces.
func unitPath(path string) string { return strings.ReplaceAll(path, "%", "%%") }
