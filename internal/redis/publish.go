package redis

import (
	"slices"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/cost"
)

// publishesToMany reports whether a command publishes something, and that may take
// long. The patterns of other nodes' listeners are about as many as this one's.
func (c *Client) publishesToMany(s *Spec, cmd Command) bool {
	return s.Name == "publish" && len(cmd) == 3 && (len(cmd[1]) > cost.ShortChannel || c.patterns.Load() > cost.FewPatterns)
}

// readsAgain reports whether a pipeline reads one value again and again: all of it
// is one answer, and if the value is a long one, that takes long.
func (c *Client) readsAgain(cmds []Command) bool {
	var t command.Tally
	for _, cmd := range cmds {
		switch s := c.Known(cmd); {
		case s == nil || len(cmd) < 2:
		case s.Name == "get", s.Name == "getex", s.Name == "mget":
			if slices.ContainsFunc(cmd[1:], t.Add) {
				return true
			}
		case s.Name == "hget", s.Name == "hmget":
			for _, field := range cmd[2:] {
				if t.Add(field) && t.Add(cmd[1]) {
					return true
				}
			}
		}
	}
	return false
}
