package operation

import (
	"strings"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/config"
)

// runsScript reports whether a command of this name runs a script or a function.
func runsScript(name string) bool {
	for _, begin := range []string{"eval", "fcall"} {
		if len(name) >= len(begin) && strings.EqualFold(name[:len(begin)], begin) {
			return true
		}
	}
	return false
}

// LoginAround returns the user that carries out a command; nil: our own.
func (o *Operation) LoginAround(cmd command.Command) *config.Login {
	if o.Login == nil || !runsScript(cmd[0]) {
		return nil
	}
	return o.Login
}
