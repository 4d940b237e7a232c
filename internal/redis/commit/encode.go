package commit

import (
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/rewrite"
	"holdfast/internal/redis/scripts"
)

// encode appends the operation's commands to a batch.
func (s *Session) encode(o *operation.Operation, batch rueidis.Commands) rueidis.Commands {
	o.First = len(batch)
	b := s.conn.B()
	switch {
	case o.Script != nil:
		batch = o.Asked(b, batch)
		batch = append(batch, s.run(o.Script, o.Record, o.Keys, o.Args))
	case o.Whole():
		batch = append(o.Asked(b, batch), s.encodeWhole(o))
	case o.Atomic:
		batch = o.Asked(b, batch)
		batch = append(batch, b.Multi().Build())
		if o.Login != nil { // for all of it: at EXEC, Redis checks the commands' rights again
			batch = append(batch, s.logIn(o.Login))
		}
		for _, cmd := range o.Cmds {
			batch = append(batch, s.plain(cmd))
		}
		batch = append(batch, b.Exec().Build())
		if o.Login != nil {
			batch = append(batch, s.logBack())
		}
	case o.Bounded != operation.Unbounded && (o.Placement == nil || !o.Placement.Asking):
		batch = o.Bounded.Encode(b, batch, o.Cmds[0][1])
	default:
		for i, cmd := range o.Cmds {
			login := o.LoginAround(cmd)
			if login != nil {
				batch = append(batch, s.logIn(login))
			}
			batch = o.Asked(b, batch)
			if o.Record != "" && o.Effects[i] {
				records := []string{o.ItemRecord(i)}
				s.w.Clocks.Made(records[0])
				if o.Placement != nil {
					script := once.InCluster
					if o.Frees[i] {
						script = once.FreeingInCluster
					}
					batch = append(batch, s.call(script, append(records, o.Placement.Keys[i]...), s.head(len(cmd)), cmd))
				} else {
					growing := "1"
					if o.Frees[i] {
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
	o.Count = len(batch) - o.First
	return batch
}

// plain returns a command of a client as this session's Redis is to get it.
func (s *Session) plain(cmd command.Command) rueidis.Completed {
	at := command.CursorAt(cmd[0])
	switch {
	case s.w.recordDB == "" && len(cmd) == 1 && strings.EqualFold(cmd[0], "dbsize"):
		return s.conn.B().Eval().Script(scripts.CountData).Numkeys(0).Arg(s.keptKeys()...).Build()
	case len(cmd) == 1 && strings.EqualFold(cmd[0], "randomkey"):
		return s.conn.B().Eval().Script(rewrite.AnyKey).Numkeys(0).Arg(command.ReservedPrefix).Build()
	case at == 0 || at >= len(cmd):
		return operation.Plain(s.conn.B(), cmd)
	}
	raw, _ := s.origin.Take(cmd[at])
	return s.conn.B().Arbitrary(cmd[0]).Args(cmd[1:at]...).Args(raw).Args(cost.WithShortCount(cmd[at+1:])...).Build()
}

// encodeWhole returns the call of the script for a transaction.
func (s *Session) encodeWhole(o *operation.Operation) rueidis.Completed {
	words := len(o.Cmds)
	for _, cmd := range o.Cmds {
		words += len(cmd)
	}
	args := s.head(words)
	for _, cmd := range o.Cmds {
		args = once.AppendSized(args, cmd)
	}
	s.w.Clocks.Made(o.Record)
	keys := []string{o.Record}
	if o.Placement != nil {
		keys = append(keys, o.Placement.Keys[0]...)
	}
	return s.call(once.Transaction, keys, args)
}

// run returns the call of a script that a user of this package made with NewScript.
func (s *Session) run(script *request.Script, record string, keys, args []string) rueidis.Completed {
	if script.ReadOnly {
		return s.call(script, keys, args)
	}
	head := s.head(len(args))
	s.w.Clocks.Made(record)
	if record == "" && len(s.w.cfg.Cluster) > 0 && len(keys) > 0 {
		record, head[0] = keys[0], "" // an empty key is in a slot, too
	}
	all := make([]string, 0, 1+len(keys))
	all = append(append(all, record), keys...)
	return s.call(script, all, head, args)
}

// head returns the first arguments of our scripts (see recording), with room for more.
func (s *Session) head(room int) []string {
	return append(make([]string, 0, 3+room), s.w.recordLife(), s.w.recordDB, s.w.dataDB)
}

// call returns the call of a script: as a whole the first time in this session, and by its
// hash from then on.
func (s *Session) call(script *request.Script, keys []string, args ...[]string) rueidis.Completed {
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
func (s *Session) forget(script *request.Script) { delete(s.loaded, script) }

// encodeSets appends those of the single commands that are plain SETs, many to a call.
// It returns the others.
func (s *Session) encodeSets(cmds rueidis.Commands, shares []meter.Allowance, singles []*operation.Operation) (_ rueidis.Commands, _ []meter.Allowance, others []*operation.Operation) {
	if !s.w.Clocks.UsesLists() {
		return cmds, shares, singles
	}
	n := 0
	for i, o := range singles {
		if o.PlainSet() {
			singles[n], singles[i] = o, singles[n]
			n++
		}
	}
	for ops := range slices.Chunk(singles[:n], maxSingles) {
		args := s.head(4 + 2*len(ops))
		hashes := make([]byte, 0, once.HashSize*len(ops))
		for i, o := range ops {
			o.First, o.Count, o.Place = len(cmds), 1, i
			hashes = append(hashes, o.Record[len(once.Prefix):]...)
		}
		args = append(args, once.Prefix, string(hashes), s.w.Clocks.ListSpan(), s.w.Clocks.ListLife())
		for _, o := range ops {
			args = append(args, o.Cmds[0][1], o.Cmds[0][2])
		}
		cmds = append(cmds, s.call(once.PlainSets, nil, args))
		shares = append(shares, meter.Allowance{Replies: 1, Framed: true, Each: true, Budget: ops[0].Budget, Always: true})
	}
	return cmds, shares, singles[n:]
}

// maxSingles limits the commands in one call of a script, because everybody else waits at
// the master meanwhile.
const maxSingles = 128

// encodeSingles appends the single commands with records, many of them in one call of a
// script. Commands that need no memory come last: see once.
func (s *Session) encodeSingles(cmds rueidis.Commands, shares []meter.Allowance) (rueidis.Commands, []meter.Allowance) {
	cmds, shares, others := s.encodeSets(cmds, shares, s.singles)
	for ops := range slices.Chunk(others, maxSingles) {
		growing := len(ops)
		for i := len(ops) - 1; i >= 0; i-- {
			if ops[i].Frees[0] {
				growing--
				ops[i], ops[growing] = ops[growing], ops[i]
			}
		}
		records := make([]string, 0, len(ops))
		args := append(s.head(1+4*len(ops)), strconv.Itoa(growing))
		for i, o := range ops {
			o.First, o.Count, o.Place = len(cmds), 1, i
			records = append(records, o.Record)
			s.w.Clocks.Made(o.Record)
			args = once.AppendSized(args, o.Cmds[0])
		}
		cmds = append(cmds, s.call(once.Each, records, args))
		shares = append(shares, meter.Allowance{Replies: 1, Framed: true, Each: true, Budget: ops[0].Budget, Always: true})
	}
	clear(s.singles)
	s.singles = s.singles[:0]
	return cmds, shares
}
