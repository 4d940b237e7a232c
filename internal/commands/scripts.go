package commands

import (
	"slices"
	"strings"
)

// Scripts is which scripts and functions clients may run.
type Scripts int

// The values of Scripts.
const (
	AllScripts  Scripts = iota
	ReadScripts         // those that Redis keeps from writing: EVAL_RO, EVALSHA_RO, FCALL_RO
	NoScripts
)

// ScriptModes are the names of these values in the settings.
var ScriptModes = map[string]Scripts{"on": AllScripts, "read": ReadScripts, "off": NoScripts}

// scriptNames are the commands that run a script or a function.
var scriptNames = []string{"eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"}

// IsScripting reports whether a command, or a container of that name, is about scripts or
// functions.
func IsScripting(name string) bool {
	container := family(name)
	return slices.Contains(scriptNames, name) || container == "script" || container == "function"
}

// RefusedScript returns why a command is refused with this setting for scripts, or "".
func RefusedScript(mode Scripts, name string) string {
	switch {
	case mode == NoScripts && IsScripting(name):
		return "scripts and functions are off here"
	case mode == ReadScripts && slices.Contains(scriptNames, name) && !strings.HasSuffix(name, "_ro"):
		return "only scripts and functions that read are on here (EVAL_RO, EVALSHA_RO, FCALL_RO)"
	}
	return ""
}

// InNoScript reports whether scripts can certainly not execute a command: nobody may use it, it is
// not allowed, or it is about scripts itself.
func InNoScript(name string, allow []string) bool {
	if IsScripting(name) {
		return true
	}
	switch rule, _ := Named(name, false); rule {
	case Never:
		return true
	case Asks:
		return slices.Contains(Dangerous, name) && !slices.ContainsFunc(allow, func(item string) bool {
			return item == name || item == family(name) || strings.HasPrefix(item, "@") && item != "@blocking"
		})
	}
	return false
}
