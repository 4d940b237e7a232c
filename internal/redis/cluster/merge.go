package cluster

import (
	"crypto/sha1"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
	"holdfast/internal/redis/rewrite"
)

// Some commands name no key and are about all keys, or about what every master has a copy of. In a
// cluster they go to every master, and the answers are put together.

// merger carries such a command out: to which shards it goes, as which command, and what becomes of
// the answers.
type merger interface {
	// shards returns the shards that the command goes to; empty if there are no shards.
	shards(t *topology, it *item) []*clusterShard
	command(t *topology, it *item) command.Command
	// merge makes one result of it.replies, those that there are so far.
	merge(t *topology, it *item) request.Result
}

// mergerOf returns how a command is carried out at several masters; nil: it goes to one.
func mergerOf(s *command.Spec) merger {
	switch s.Name {
	case "flushall", "flushdb", "script|load", "script|flush", "script|kill",
		"function|load", "function|delete", "function|flush", "function|restore":
		return everywhere(same)
	case "dbsize":
		return everywhere(sum)
	case "keys":
		return everywhere(concatenate)
	case "randomkey":
		return everywhere(anyOf)
	case "script|exists":
		return everywhere(least)
	case "info":
		return everywhere(infoOf)
	case "scan":
		return scanner{}
	}
	return nil
}

// everywhere goes to every master. The function puts replies without an error together.
type everywhere func(replies []resp.Reply) resp.Reply

func (everywhere) shards(t *topology, _ *item) []*clusterShard {
	var all []*clusterShard
	for _, i := range t.order {
		all = append(all, t.shards[i])
	}
	return all
}

func (everywhere) command(_ *topology, it *item) command.Command { return it.cmd }

func (f everywhere) merge(_ *topology, it *item) request.Result {
	var replies []resp.Reply
	for _, r := range it.replies {
		if r.Err != nil {
			return r
		}
		replies = append(replies, r.Reply)
	}
	return request.Result{Reply: f(replies)}
}

func same(replies []resp.Reply) resp.Reply { return replies[0] }

func sum(replies []resp.Reply) resp.Reply {
	n := int64(0)
	for i := range replies {
		n += replies[i].Int()
	}
	return (&resp.Value{Kind: resp.Integer, Int: n}).Reply()
}

func concatenate(replies []resp.Reply) resp.Reply {
	all := &resp.Value{Kind: resp.Array}
	for i := range replies {
		for k := range replies[i].Len() {
			all.Items = append(all.Items, replies[i].At(k))
		}
	}
	return all.Reply()
}

func anyOf(replies []resp.Reply) resp.Reply {
	found := slices.DeleteFunc(replies, func(r resp.Reply) bool { return r.Type() == resp.Null })
	if len(found) == 0 {
		return resp.Reply{}
	}
	return found[rand.IntN(len(found))]
}

// least returns the least number at each place of arrays of numbers.
func least(replies []resp.Reply) resp.Reply {
	all := &resp.Value{Kind: resp.Array}
	for k := range replies[0].Len() {
		n := int64(1)
		for i := range replies {
			if k < replies[i].Len() {
				e := replies[i].At(k)
				n = min(n, e.Int())
			}
		}
		all.Items = append(all.Items, (&resp.Value{Kind: resp.Integer, Int: n}).Reply())
	}
	return all.Reply()
}

// infoOf returns what one master tells of itself, with a run_id that stands for all masters: it is
// another one when any of the processes is another one.
func infoOf(replies []resp.Reply) resp.Reply {
	const field = "\nrun_id:"
	var ids []string
	for i := range replies {
		if _, rest, ok := strings.Cut(replies[i].Text(), field); ok {
			id, _, _ := strings.Cut(rest, "\r\n")
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return replies[0]
	}
	slices.Sort(ids)
	head, rest, _ := strings.Cut(replies[0].Text(), field)
	_, tail, _ := strings.Cut(rest, "\r\n")
	sum := sha1.Sum([]byte(strings.Join(ids, " ")))
	return (&resp.Value{Kind: resp.Text, Text: head + field + hex.EncodeToString(sum[:]) + "\r\n" + tail}).Reply()
}

// scanner carries SCAN out, one master after the other. Its cursors are a master's (see origin),
// with the number of the master in the lowest bits, by the order of their slots: any web node can go
// on with them. Bits of topology.firsts are mixed in, because with other masters, or other numbers
// of them, one could be left out. While slots move from one master to another, keys of these may be
// left out or named twice.
type scanner struct{}

// cursorBits is how many bits the number of the master has.
const cursorBits = 10

// place returns the number of the master and the cursor that it gets. If the cursor is not one of
// these masters, it is the first one.
func (scanner) place(t *topology, cmd command.Command) (number int, cursor string) {
	if len(cmd) < 2 {
		return 0, "" // Redis has words for that
	}
	n, begins, ok := rewrite.ReadCursor(cmd[1])
	if begins || !ok {
		return 0, cmd[1]
	}
	number, n = int(n&(1<<cursorBits-1)), n>>cursorBits^uint64(t.firsts)
	if number >= len(t.order) || n>>rewrite.OriginBits == 0 && n != 0 {
		return 0, rewrite.ForeignCursor
	}
	return number, strconv.FormatUint(n, 10)
}

func (s scanner) shards(t *topology, it *item) []*clusterShard {
	if len(t.order) == 0 {
		return nil
	}
	number, _ := s.place(t, it.cmd)
	return []*clusterShard{t.shards[t.order[number]]}
}

func (s scanner) command(t *topology, it *item) command.Command {
	if len(it.cmd) < 2 {
		return it.cmd
	}
	cmd := slices.Clone(it.cmd)
	_, cmd[1] = s.place(t, it.cmd)
	return cmd
}

func (s scanner) merge(t *topology, it *item) request.Result {
	r := it.replies[len(it.replies)-1]
	if r.Err != nil || r.Reply.Len() != 2 {
		return r
	}
	number, _ := s.place(t, it.cmd)
	next, keys := r.Reply.At(0), r.Reply.At(1)
	cursor, err := strconv.ParseUint(next.Text(), 10, 64)
	switch {
	case err != nil || cursor>>(64-cursorBits) != 0:
		return request.Result{Err: &outcome.Error{Kind: outcome.Refused, Cause: rewrite.ErrCursorTooBig}}
	case cursor == 0 && number+1 == len(t.order):
	case cursor == 0:
		cursor = uint64(t.firsts)<<cursorBits | uint64(number+1)
	default:
		cursor = (cursor^uint64(t.firsts))<<cursorBits | uint64(number)
	}
	return request.Result{Reply: rewrite.WithCursor(strconv.FormatUint(cursor, 10), keys)}
}
