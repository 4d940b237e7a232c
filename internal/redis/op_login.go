package redis

import "strings"

// runsScript reports whether a command of this name runs a script or a function.
func runsScript(name string) bool {
	for _, begin := range []string{"eval", "fcall"} {
		if len(name) >= len(begin) && strings.EqualFold(name[:len(begin)], begin) {
			return true
		}
	}
	return false
}

// loginAround returns the user that carries out a command; nil: our own.
func (o *operation) loginAround(cmd Command) *Login {
	if o.login == nil || !runsScript(cmd[0]) {
		return nil
	}
	return o.login
}
