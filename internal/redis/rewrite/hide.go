// Package rewrite makes the answers of Redis what clients get: without Holdfast's own names, and
// with cursors that name the Redis process that gave them.
package rewrite

import (
	"strings"

	rules "holdfast/internal/commands"
	"holdfast/internal/redis/command"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
)

// Holdfast has keys of its own among the data, which no client sees: the answers to KEYS, SCAN
// and RANDOMKEY leave them out. The answer to PUBSUB CHANNELS leaves out the Sentinels' channel.

// hiddenOf returns which names the answer to a command leaves out; nil: the answer has
// no names but those among the command's arguments.
func hiddenOf(cmd command.Command) func(name string) bool {
	name := cmd[0]
	switch len(name) {
	case len("pubsub"):
		if len(cmd) > 1 && strings.EqualFold(name, "pubsub") && strings.EqualFold(cmd[1], "channels") {
			return isSentinels
		}
	case len("keys"):
		if strings.EqualFold(name, "keys") || strings.EqualFold(name, "scan") {
			return command.Reserved
		}
	case len("randomkey"):
		if strings.EqualFold(name, "randomkey") {
			return command.Reserved
		}
	}
	return nil
}

func isSentinels(channel string) bool { return channel == rules.SentinelChannel }

// HideReserved removes our own names from the answers to commands.
func HideReserved(cmds []command.Command, results []request.Result) {
	for i := range results {
		if r := &results[i]; r.Err == nil {
			if hidden := hiddenOf(cmds[i]); hidden != nil {
				r.Reply = without(r.Reply, hidden)
			}
		}
	}
}

// without returns an answer without its hidden texts.
func without(r resp.Reply, hidden func(string) bool) resp.Reply {
	if r.Type() == resp.Text && hidden(r.Text()) {
		return resp.Reply{}
	}
	if r.Type() != resp.Array {
		return r
	}
	var kept []resp.Reply // not nil: something was left out or changed
	for i := range r.Len() {
		was := r.At(i)
		is := was
		gone := was.Type() == resp.Text && hidden(was.Text())
		changed := false
		if was.Type() == resp.Array { // the keys that SCAN found
			is = without(was, hidden)
			changed = is.Len() != was.Len()
		}
		if kept == nil && (gone || changed) {
			kept = make([]resp.Reply, 0, r.Len())
			for k := range i {
				kept = append(kept, r.At(k))
			}
		}
		if kept != nil && !gone {
			kept = append(kept, is)
		}
	}
	if kept == nil {
		return r
	}
	return (&resp.Value{Kind: resp.Array, Items: kept}).Reply()
}

// AnyKey is a RANDOMKEY that skips our own keys, whose names begin with ARGV[1]. It
// returns no key if it finds only our own for long.
const AnyKey = `
for _ = 1, 1000 do
  local key = redis.call('RANDOMKEY')
  if not key or string.sub(key, 1, #ARGV[1]) ~= ARGV[1] then return key end
end
return false`
