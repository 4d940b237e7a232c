package redis

import (
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/rewrite"
	"holdfast/internal/redis/scripts"
)

// encode appends the operation's commands to a batch.
func (s *session) encode(o *operation, batch rueidis.Commands) rueidis.Commands {
	o.first = len(batch)
	b := s.conn.B()
	switch {
	case o.script != nil:
		batch = o.asked(b, batch)
		batch = append(batch, s.run(o.script, o.record, o.keys, o.args))
	case o.whole():
		batch = append(o.asked(b, batch), s.encodeWhole(o))
	case o.atomic:
		batch = o.asked(b, batch)
		batch = append(batch, b.Multi().Build())
		if o.login != nil { // for all of it: at EXEC, Redis checks the commands' rights again
			batch = append(batch, s.logIn(o.login))
		}
		for _, cmd := range o.cmds {
			batch = append(batch, s.plain(cmd))
		}
		batch = append(batch, b.Exec().Build())
		if o.login != nil {
			batch = append(batch, s.logBack())
		}
	case o.bounded != unbounded && (o.site == nil || !o.site.asking):
		batch = o.bounded.encode(b, batch, o.cmds[0][1])
	default:
		for i, cmd := range o.cmds {
			login := o.loginAround(cmd)
			if login != nil {
				batch = append(batch, s.logIn(login))
			}
			batch = o.asked(b, batch)
			if o.record != "" && o.effects[i] {
				records := []string{o.itemRecord(i)}
				s.w.clocks.Made(records[0])
				if o.site != nil {
					script := once.InCluster
					if o.frees[i] {
						script = once.FreeingInCluster
					}
					batch = append(batch, s.call(script, append(records, o.site.keys[i]...), s.head(len(cmd)), cmd))
				} else {
					growing := "1"
					if o.frees[i] {
						growing = "0"
					}
					batch = append(batch, s.call(once.Each, records, once.AppendSized(append(s.head(2+len(cmd)), growing), cmd)))
				}
			} else {
				batch = append(batch, s.plain(cmd))
			}
			if login != nil {
				batch = append(batch, s.logBack())
			}
		}
	}
	o.count = len(batch) - o.first
	return batch
}

// plain returns a command of a client as this session's Redis is to get it.
func (s *session) plain(cmd Command) rueidis.Completed {
	at := command.CursorAt(cmd[0])
	switch {
	case s.w.recordDB == "" && len(cmd) == 1 && strings.EqualFold(cmd[0], "dbsize"):
		return s.conn.B().Eval().Script(scripts.CountData).Numkeys(0).Arg(s.keptKeys()...).Build()
	case len(cmd) == 1 && strings.EqualFold(cmd[0], "randomkey"):
		return s.conn.B().Eval().Script(rewrite.AnyKey).Numkeys(0).Arg(command.ReservedPrefix).Build()
	case at == 0 || at >= len(cmd):
		return plain(s.conn.B(), cmd)
	}
	raw, _ := s.origin.Take(cmd[at])
	return s.conn.B().Arbitrary(cmd[0]).Args(cmd[1:at]...).Args(raw).Args(cost.WithShortCount(cmd[at+1:])...).Build()
}

// encodeWhole returns the call of the script for a transaction.
func (s *session) encodeWhole(o *operation) rueidis.Completed {
	words := len(o.cmds)
	for _, cmd := range o.cmds {
		words += len(cmd)
	}
	args := s.head(words)
	for _, cmd := range o.cmds {
		args = once.AppendSized(args, cmd)
	}
	s.w.clocks.Made(o.record)
	keys := []string{o.record}
	if o.site != nil {
		keys = append(keys, o.site.keys[0]...)
	}
	return s.call(once.Transaction, keys, args)
}

// run returns the call of a script that a user of this package made with NewScript.
func (s *session) run(script *Script, record string, keys, args []string) rueidis.Completed {
	if script.ReadOnly {
		return s.call(script, keys, args)
	}
	head := s.head(len(args))
	s.w.clocks.Made(record)
	if record == "" && len(s.w.cfg.Cluster) > 0 && len(keys) > 0 {
		record, head[0] = keys[0], "" // an empty key is in a slot, too
	}
	all := make([]string, 0, 1+len(keys))
	all = append(append(all, record), keys...)
	return s.call(script, all, head, args)
}

// head returns the first arguments of our scripts (see recording), with room for more.
func (s *session) head(room int) []string {
	return append(make([]string, 0, 3+room), s.w.recordLife(), s.w.recordDB, s.w.dataDB)
}

// call returns the call of a script: as a whole the first time in this session, and by its
// hash from then on.
func (s *session) call(script *Script, keys []string, args ...[]string) rueidis.Completed {
	c := s.conn.B().Arbitrary("EVALSHA")
	if s.loaded[script] {
		c = c.Args(script.SHA)
	} else {
		s.loaded[script] = true
		c = s.conn.B().Arbitrary("EVAL").Args(script.Source)
	}
	c = c.Args(strconv.Itoa(len(keys))).Args(keys...)
	for _, part := range args {
		c = c.Args(part...)
	}
	return c.Build()
}

// forget makes call send a script as a whole the next time, because Redis has lost it
// (SCRIPT FLUSH).
func (s *session) forget(script *Script) { delete(s.loaded, script) }

// encodeSets appends those of the single commands that are plain SETs, many to a call.
// It returns the others.
func (s *session) encodeSets(cmds rueidis.Commands, shares []meter.Allowance, singles []*operation) (_ rueidis.Commands, _ []meter.Allowance, others []*operation) {
	if !s.w.clocks.UsesLists() {
		return cmds, shares, singles
	}
	n := 0
	for i, o := range singles {
		if o.plainSet() {
			singles[n], singles[i] = o, singles[n]
			n++
		}
	}
	for ops := range slices.Chunk(singles[:n], maxSingles) {
		args := s.head(4 + 2*len(ops))
		hashes := make([]byte, 0, once.HashSize*len(ops))
		for i, o := range ops {
			o.first, o.count, o.place = len(cmds), 1, i
			hashes = append(hashes, o.record[len(once.Prefix):]...)
		}
		args = append(args, once.Prefix, string(hashes), s.w.clocks.ListSpan(), s.w.clocks.ListLife())
		for _, o := range ops {
			args = append(args, o.cmds[0][1], o.cmds[0][2])
		}
		cmds = append(cmds, s.call(once.PlainSets, nil, args))
		shares = append(shares, meter.Allowance{Replies: 1, Framed: true, Each: true, Budget: ops[0].budget, Always: true})
	}
	return cmds, shares, singles[n:]
}

// maxSingles limits the commands in one call of a script, because everybody else waits at
// the master meanwhile.
const maxSingles = 128

// encodeSingles appends the single commands with records, many of them in one call of a
// script. Commands that need no memory come last: see once.
func (s *session) encodeSingles(cmds rueidis.Commands, shares []meter.Allowance) (rueidis.Commands, []meter.Allowance) {
	cmds, shares, others := s.encodeSets(cmds, shares, s.singles)
	for ops := range slices.Chunk(others, maxSingles) {
		growing := len(ops)
		for i := len(ops) - 1; i >= 0; i-- {
			if ops[i].frees[0] {
				growing--
				ops[i], ops[growing] = ops[growing], ops[i]
			}
		}
		records := make([]string, 0, len(ops))
		args := append(s.head(1+4*len(ops)), strconv.Itoa(growing))
		for i, o := range ops {
			o.first, o.count, o.place = len(cmds), 1, i
			records = append(records, o.record)
			s.w.clocks.Made(o.record)
			args = once.AppendSized(args, o.cmds[0])
		}
		cmds = append(cmds, s.call(once.Each, records, args))
		shares = append(shares, meter.Allowance{Replies: 1, Framed: true, Each: true, Budget: ops[0].budget, Always: true})
	}
	clear(s.singles)
	s.singles = s.singles[:0]
	return cmds, shares
}
