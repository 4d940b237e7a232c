package operation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/scripts"
)

// Maker makes the operations of requests, by what Redis says of their commands. It is safe for
// concurrent use.
type Maker struct {
	specs
	inCluster bool
	// Patterns is how many patterns the subscribers of this process have together.
	Patterns atomic.Int64
}

// NewMaker returns a maker that asks the master which a monitor follows.
func NewMaker(cfg config.Config, m *discovery.Monitor, inCluster bool) *Maker {
	return &Maker{specs: specs{cfg: cfg, monitor: m, loading: make(chan struct{}, 1)}, inCluster: inCluster}
}

// foreseeMany is foresee for several commands, or one about several keys. wary is true if an
// answer of the same request was long, so that one of unknown length may be, too.
//
//go:noinline
func (m *Maker) foreseeMany(o *Operation, wary bool) {
	var seen, again meter.Encounters
	unseen := 0
	met := func(key uint64) {
		unseen++
		o.large = o.large || wary || unseen > meter.UnseenKeys || seen.Add(key) > meter.UnseenTwice
	}
	look := func(key uint64, cmd, element int) (strange bool) {
		length, known := o.Ledger.Lengths.Of(key)
		if known && length == 0 {
			// It may have become long since, so it is not read many times at once.
			o.large = o.large || again.Add(key) > command.MaxNamed
			return false
		}
		if o.lessons == nil {
			o.lessons = make([]lesson, 0, len(o.Cmds))
		}
		o.lessons = append(o.lessons, lesson{key, cmd, element})
		o.large = o.large || known
		return !known
	}
	for i, cmd := range o.Cmds {
		spec := m.Known(cmd)
		switch {
		case spec == nil || spec.AnswerKind == command.ByNothing || len(cmd) < 2:
		case spec.AnswerKind == command.ByKeys:
			for e := range cmd[1:] {
				if key := command.ByKey.Key(cmd[e:]); look(key, i, e) {
					met(key)
				}
			}
		default:
			key := spec.AnswerKind.Key(cmd)
			if key == 0 || !look(key, i, -1) {
				continue
			}
			if met(key); spec.AnswerKind == command.ByHash && len(cmd) > 3 {
				for _, field := range cmd[2:] {
					met(command.ByField.Key(command.Command{"", cmd[1], field}))
				}
			}
		}
	}
}

// Enlarge has an operation go aside, because its answer turned out to be long.
func (m *Maker) Enlarge(o *Operation) {
	if !o.Aside() {
		o.large, o.Bounded, o.estimates = true, Unbounded, m.estimates(o)
	}
}

// measure adds to an estimate what is known, or can be asked, of how long the answer is.
func measure(s *command.Spec, e *cost.Estimate, cmd command.Command, known *meter.Lengths) {
	e.Timed = len(e.Asks)
	if s == nil || !s.Takes(cmd) {
		return
	}
	switch s.Name {
	case "getdel":
		e.Asks = append(e.Asks, command.Command{"STRLEN", cmd[1]})
	case "get", "getex", "mget", "hget", "hmget":
		e.Whole = true
	case "getrange", "substr":
		e.Ranged = true
	default:
		if key := s.AnswerKind.Key(cmd); s.AnswerKind != command.ByNothing && key != 0 {
			length, seen := known.Of(key)
			if seen {
				e.Length = float64(length)
			}
		}
	}
}

// estimates returns the estimates of an operation's commands.
func (m *Maker) estimates(o *Operation) []cost.Estimate {
	all := o.estimate[:]
	if len(o.Cmds) > 1 {
		all = make([]cost.Estimate, len(o.Cmds))
	}
	for i, cmd := range o.Cmds {
		spec := m.Known(cmd)
		all[i] = cost.Of(spec, cmd)
		if spec != nil && spec.RunsScript() {
			all[i].Base += float64(scriptEstimate)
		}
		measure(spec, &all[i], cmd, &o.Ledger.Lengths)
	}
	return all
}

// HasWaiting reports whether an operation is a pipeline with a command that may wait for data.
// Such a command is carried out in a transaction, where Redis does not let it wait. In a
// pipeline it has a transaction of its own: Redis discards a transaction as a whole when it
// refuses to queue one of its commands, and the commands of a pipeline do not depend on each
// other.
func (o *Operation) HasWaiting(r *request.Request) bool {
	return o.Atomic && !r.Atomic && len(r.Commands) > 1
}

// Make makes the operation of a request. The error is why the request is refused.
func (m *Maker) Make(ctx context.Context, r *request.Request) (*Operation, error) {
	o := operations.Get().(*Operation)
	o.Cmds, o.Atomic, o.Script, o.Keys, o.Args = r.Commands, r.Atomic, r.Script, r.Keys, r.Args
	o.Async, o.WantToken, o.Sender = r.Async, r.WantToken, r.Sender
	o.Ledger, o.Budget = m.cfg.Answers, max(0, int64(m.cfg.MaxAnswer)-r.Spent)
	if o.Script != nil {
		o.Writes = !o.Script.ReadOnly
		o.Size = size(o.Keys) + size(o.Args)
	}
	if len(o.Cmds) == 0 && o.Script == nil {
		return nil, &outcome.Error{Kind: outcome.Invalid, Cause: ErrNoCommand}
	}
	// carried: a script of ours can carry out each command that writes;
	// whole: all commands as one transaction.
	carried, whole := true, len(o.Cmds) <= once.MaxWhole
	o.Brief = true // a script of ours is
	words, several := 0, len(o.Cmds) > 1
	if len(o.Cmds) == 1 {
		o.Effects, o.Frees = o.oneEffect[:], o.oneFree[:]
	} else {
		o.Effects, o.Frees = make([]bool, len(o.Cmds)), make([]bool, len(o.Cmds))
	}
	for i, cmd := range o.Cmds {
		if len(cmd) == 0 || cmd[0] == "" {
			return nil, &outcome.Error{Kind: outcome.Invalid, Cause: ErrNoCommand}
		}
		spec, err := m.Spec(ctx, cmd)
		if err != nil {
			return nil, err
		}
		suspect := false
		for _, arg := range cmd[1:] {
			suspect = suspect || command.Reserved(arg)
			o.Size += len(arg)
		}
		if suspect && !r.Own && namesReserved(spec, cmd) {
			return nil, &outcome.Error{Kind: outcome.Invalid, Cause: errReservedKey}
		}
		switch {
		case spec == nil:
			// Redis is the one to refuse a command that is not known here. But the client
			// library would take some names for commands of its own.
			if strings.HasSuffix(strings.ToUpper(cmd[0]), "SUBSCRIBE") {
				return nil, &outcome.Error{Kind: outcome.Invalid, Cause: errStateful}
			}
			o.Effects[i] = true
			carried, o.Brief = false, false
		case spec.Stateful:
			return nil, &outcome.Error{Kind: outcome.Invalid, Cause: fmt.Errorf("%w: %s", errStateful, spec.Name)}
		default:
			o.Effects[i], o.Frees[i] = spec.Write, spec.Write && !spec.Grows
			o.Local = o.Local || !spec.Replicated
			o.Uses = scripts.AppendUses(o.Uses, spec.Name, cmd)
			o.Brief = o.Brief && spec.BriefFor(cmd) && !m.publishesToMany(spec, cmd)
			o.RunsScript = o.RunsScript || spec.RunsScript()
			several = several || spec.AnswerKind >= command.ByKeys
			if len(o.Cmds) == 1 && (spec.AnswerKind == command.ByKey || spec.AnswerKind == command.ByField) {
				o.foresee(spec.AnswerKind, cmd)
			}
			// A command that waits would hold up everybody else on the connection. In a
			// transaction Redis answers it at once, as if its time were over.
			o.Atomic = o.Atomic || spec.Waits(cmd)
			// BITFIELD returns integers of 64 bits, and those of Lua have 53.
			carried = carried && (!spec.Write || !spec.NoScript && spec.Name != "bitfield")
		}
		o.Size += len(cmd[0])
		words += len(cmd)
		o.Writes = o.Writes || o.Effects[i]
		carried = carried && len(cmd) < once.MaxScriptArgs
		whole = whole && once.Carriable(spec, cmd, m.inCluster)
	}
	if o.RunsScript {
		o.Login = m.cfg.ScriptLogin(r.ReadScripts)
	}
	o.Brief = o.Brief && words <= command.BriefTogether && (len(o.Cmds) <= 2*command.MaxNamed || o.Script != nil || !m.readsAgain(o.Cmds))
	if several {
		m.foreseeMany(o, r.Wary)
	}
	o.large = o.large || r.Long
	if o.Aside() && o.Script == nil {
		o.Bounded, o.estimates = Unbounded, m.estimates(o)
	}
	if o.Atomic {
		o.Bounded = Unbounded
	}
	if o.Writes && r.IdempotencyKey != "" {
		o.Record, o.attempt = once.Record(m.cfg.App, r), r.Attempt
		if o.Atomic {
			carried = whole
		}
		o.Guarded = o.Script == nil && !carried
	}
	return o, nil
}

func size(args []string) int {
	n := 0
	for _, a := range args {
		n += len(a)
	}
	return n
}

// namesReserved reports whether one of a command's keys is Holdfast's own, as far as
// Redis tells which of its words are keys. Where it does not (SORT), no word may be
// like one.
func namesReserved(spec *command.Spec, cmd command.Command) bool {
	if spec == nil {
		return true
	}
	keys, told := spec.Keys(cmd)
	return !told || slices.ContainsFunc(keys, command.Reserved)
}

// publishesToMany reports whether a command publishes something, and that may take
// long. The patterns of other nodes' listeners are about as many as this one's.
func (m *Maker) publishesToMany(s *command.Spec, cmd command.Command) bool {
	return s.Name == "publish" && len(cmd) == 3 && (len(cmd[1]) > cost.ShortChannel || m.Patterns.Load() > cost.FewPatterns)
}

// readsAgain reports whether a pipeline reads one value again and again: all of it
// is one answer, and if the value is a long one, that takes long.
func (m *Maker) readsAgain(cmds []command.Command) bool {
	var t command.Tally
	for _, cmd := range cmds {
		switch s := m.Known(cmd); {
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
