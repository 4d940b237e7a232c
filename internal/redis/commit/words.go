package commit

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
)

// A command with a record is sent inside a script of ours. If Redis refuses it before it runs it (an
// unknown command or subcommand, a wrong number of arguments, a missing right), its words are for the
// author of a script: "Wrong number of args calling Redis command from script". The client sent no
// script. So the words for the command itself are asked for: in a transaction Redis makes the same
// checks when it queues a command (server.c, processCommand), and a transaction that is discarded
// does nothing.

// refusedCommand is a command that Redis refused in words for a script.
type refusedCommand struct {
	operation *operation.Operation
	number    int
}

// wordedForScript reports whether a refusal is about a script.
func wordedForScript(err error) bool {
	return strings.Contains(strings.ToLower(outcome.Words(err)), "script")
}

// appendMisworded appends the commands of an operation that were refused in words
// for a script. Those of a user's own script are right as they are.
func appendMisworded(list []refusedCommand, o *operation.Operation) []refusedCommand {
	if o.Record == "" || o.Guarded || o.Script != nil {
		return list
	}
	for i := range o.Results {
		if o.Results[i].Err != nil && wordedForScript(o.Results[i].Err) {
			list = append(list, refusedCommand{o, i})
		}
	}
	return list
}

// askWords replaces the words of refusals by those that Redis has for the commands themselves. If it
// has none, they stay. The error means that the connection was lost.
func (s *Session) askWords(ctx context.Context, list []refusedCommand) error {
	b := s.conn.B()
	answers, _ := s.exchange(ctx, rueidis.Commands{b.Multi().Build()})
	if err := answers[0].NonRedisError(); err != nil {
		return fmt.Errorf("%w (%w)", outcome.ErrLost, err)
	}
	if answers[0].Error() != nil {
		return nil // without a transaction the commands would be carried out
	}

	cmds := make(rueidis.Commands, 0, len(list)+1)
	for _, c := range list {
		cmds = append(cmds, operation.Plain(b, c.operation.Cmds[c.number]))
	}
	answers, _ = s.exchange(ctx, append(cmds, b.Discard().Build()))
	last := answers[len(list)]
	if err := last.NonRedisError(); err != nil {
		return fmt.Errorf("%w (%w)", outcome.ErrLost, err)
	}
	if err := last.Error(); err != nil {
		s.spoil(err) // it stays in the transaction
	}

	for i, c := range list {
		m, err := answers[i].ToMessage()
		if outcome.FateOf(err, true) != outcome.Rejected {
			continue
		}
		if words := outcome.WordsOf(m); outcome.RedirectionOf(words).Code == "" {
			c.operation.Results[c.number].Err = c.operation.Refusal(words)
		}
	}
	return nil
}

// reword gives refused commands Redis' words for them. If the connection is lost before that (broken
// is the reason), their operations are repeated: what they did has its record.
func (s *Session) reword(ctx context.Context, list []refusedCommand, broken error) error {
	if len(list) == 0 {
		return broken
	}
	if broken == nil {
		broken = s.askWords(ctx, list)
	}
	if broken == nil {
		return nil
	}

	back := make(map[*operation.Operation]bool, len(list))
	for _, c := range list {
		if o := c.operation; !back[o] {
			back[o] = true
			o.Cause = broken
			o.Sent = o.Sent || len(o.Cmds) > 1 // others of it may have happened
			s.again = append(s.again, o)
		}
	}
	s.done = slices.DeleteFunc(s.done, func(o *operation.Operation) bool { return back[o] })
	return broken
}
