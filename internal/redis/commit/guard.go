package commit

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
	"holdfast/internal/redis/rewrite"
)

// No script of ours can carry out some writes with an idempotency key: scripts and
// functions themselves, transactions with commands that are not carriable, and commands
// with too many arguments. These writes are guarded. They take two trips:
//
//  1. WATCH, and read the record.
//  2. If there is no record: MULTI, the record, the commands, EXEC. EXEC does nothing if
//     anybody has made the record meanwhile.
//
// The answer is added to the record afterwards. If that fails, a repetition is only told
// that the request was carried out.

// errRival is the error if another attempt of the same request came first.
var errRival = errors.New("another attempt of the same request is under way")

// guarded carries out one operation in this way. It returns what operation.read does.
func (s *Session) guarded(ctx context.Context, o *operation.Operation) (then operation.Next, broken error) {
	o.Results = o.Results[:0]
	if o.Atomic {
		results, err := s.guard(ctx, o.Record, o.Cmds, o.Login)
		if err != nil {
			return s.unguarded(o, err)
		}
		o.Results = results
		return operation.Settle, nil
	}
	for i, cmd := range o.Cmds {
		var results []request.Result
		var err error
		if o.Effects[i] {
			results, err = s.guard(ctx, o.ItemRecord(i), o.Cmds[i:i+1], o.LoginAround(cmd))
		} else {
			results, err = s.ask(ctx, cmd, o.LoginAround(cmd))
		}
		var no *operation.Discarded
		switch {
		case errors.As(err, &no):
			o.Results = append(o.Results, request.Result{Err: o.Refusal(no.Cause)})
		case err != nil:
			return s.unguarded(o, err)
		default:
			o.Results = append(o.Results, results...)
		}
	}
	s.origin.Stamp(o.Cmds, o.Results)
	return operation.Settle, nil
}

// unguarded deals with an operation that was not carried out as a whole. All of it may be
// sent again, because what was carried out has its record.
func (s *Session) unguarded(o *operation.Operation, err error) (operation.Next, error) {
	var no *operation.Discarded
	switch {
	case errors.As(err, &no):
		o.Finish(o.Refusal(no))
		return operation.Decided, nil
	case errors.Is(err, once.ErrDone):
		o.Finish(&outcome.Error{Kind: outcome.Unknown, Cause: once.ErrDone})
		return operation.Decided, nil
	case errors.Is(err, errRival):
		o.Cause, s.pause = err, RetryPause
		return operation.Repeat, nil
	case errors.Is(err, outcome.ErrLost):
		return o.Lose(err, s.loss()), outcome.ErrLost
	}
	o.Cause = err
	return operation.Repeat, s.refused(err)
}

// ask carries out a command that only reads, as a user; nil: as our own.
func (s *Session) ask(ctx context.Context, cmd command.Command, as *config.Login) ([]request.Result, error) {
	cmds, at := rueidis.Commands{s.plain(cmd)}, 0
	if as != nil {
		cmds, at = rueidis.Commands{s.logIn(as), cmds[0], s.logBack()}, 1
	}
	answers, sent := s.exchange(ctx, cmds)
	if as != nil {
		s.loggedIn(answers[0].Error())
		s.loggedIn(answers[2].Error())
	}
	m, err := answers[at].ToMessage()
	switch outcome.FateOf(err, sent) {
	case outcome.Executed:
		return []request.Result{{Reply: resp.FromMessage(m)}}, nil
	case outcome.Rejected:
		return nil, &operation.Discarded{Cause: outcome.WordsOf(m)}
	case outcome.Later:
		return nil, err
	}
	return nil, outcome.ErrLost
}

// guard carries commands out in one transaction, once. The commands run as a user (nil:
// our own); our own user writes the record. The error is *operation.Discarded, ErrDone, errRival or
// ErrLost. Any other error means that nothing happened, and that another node or a later
// try may carry the commands out.
func (s *Session) guard(ctx context.Context, record string, commands []command.Command, as *config.Login) ([]request.Result, error) {
	s.w.Clocks.Made(record)
	b := s.conn.B()
	cmds := s.records(nil, b.Watch().Key(record).Build(), b.Get().Key(record).Build())
	answers, sent := s.exchange(ctx, cmds)
	for _, a := range answers {
		if m, err := a.ToMessage(); err != nil && !rueidis.IsRedisNil(err) {
			s.spoil(err) // the connection may still be in the wrong database
			if outcome.FateOf(err, sent) == outcome.Rejected {
				return nil, errors.Join(&operation.Discarded{Cause: outcome.WordsOf(m)}, s.unwatch(ctx))
			}
			return nil, err // nothing was written yet
		}
	}
	get := 1
	if s.w.recordDB != "" {
		get = 2
	}
	if kept, err := answers[get].AsBytes(); err == nil {
		if err := s.unwatch(ctx); err != nil {
			return nil, err
		}
		return once.Replayed(kept, commands)
	}

	cmds = s.records(rueidis.Commands{b.Multi().Build()},
		b.Set().Key(record).Value("").PxMilliseconds(resp.Int(s.w.recordLife())).Build())
	if slices.ContainsFunc(commands, func(cmd command.Command) bool {
		return len(cmd) > 1 && strings.EqualFold(cmd[0], "script") && strings.EqualFold(cmd[1], "flush")
	}) {
		cmds = append(cmds, s.drop())
	}
	login := -1 // its place in the answer of EXEC
	if as != nil {
		login = len(cmds) - 1
		cmds = append(cmds, s.logIn(as))
	}
	if rewrite.HasCursor(commands) {
		// The record may be read at another process: see replayed.
		cmds = append(cmds, b.Echo().Message(strconv.FormatUint(uint64(s.origin), 10)).Build())
	}
	before := len(cmds) - 1 // results of EXEC that are ours
	for _, cmd := range commands {
		cmds = append(cmds, s.plain(cmd))
	}
	cmds = append(cmds, b.Exec().Build())
	if as != nil {
		cmds = append(cmds, s.logBack())
	}
	answers, sent = s.exchange(ctx, cmds)
	if as != nil {
		last := len(answers) - 1
		s.loggedIn(answers[last].Error())
		answers = answers[:last]
	}
	exec := answers[len(answers)-1]
	switch {
	case exec.NonRedisError() != nil && !sent:
		return nil, outcome.ErrNotSent
	case exec.NonRedisError() != nil:
		return nil, outcome.ErrLost
	case rueidis.IsRedisNil(exec.Error()):
		return nil, errRival
	}
	if exec.Error() != nil {
		cause, may := operation.Aborted(answers)
		if !operation.Transacted(answers) {
			return nil, outcome.ErrLost
		}
		if may {
			return nil, cause
		}
		return nil, &operation.Discarded{Cause: cause}
	}
	all, err := exec.ToMessage()
	if err != nil {
		return nil, outcome.ErrLost
	}
	list, _ := all.ToArray()
	if login >= 0 {
		s.loggedIn(list[login].Error())
	}
	out := once.Results(list[before:])
	if !once.Keepable(list[before:]) {
		s.origin.Stamp(commands, out)
		return out, nil
	}
	keep := s.records(nil, b.Set().Key(record).Value(string(all.CacheMarshal(nil))).Xx().PxMilliseconds(resp.Int(s.w.recordLife())).Build())
	answers, _ = s.exchange(ctx, keep)
	if answers[len(answers)-1].NonRedisError() != nil {
		return nil, outcome.ErrLost
	}
	for _, a := range answers {
		if err := a.Error(); err != nil && !rueidis.IsRedisNil(err) {
			s.spoil(err)
		}
	}
	s.origin.Stamp(commands, out)
	return out, nil
}

// records appends commands that are for the database of the records.
func (s *Session) records(cmds rueidis.Commands, inside ...rueidis.Completed) rueidis.Commands {
	if s.w.recordDB == "" {
		return append(cmds, inside...)
	}
	cmds = append(cmds, s.selectDB(s.w.recordDB))
	cmds = append(cmds, inside...)
	return append(cmds, s.selectDB(s.w.dataDB))
}

func (s *Session) unwatch(ctx context.Context) error {
	answers, _ := s.exchange(ctx, rueidis.Commands{s.conn.B().Unwatch().Build()})
	if answers[0].Error() != nil {
		return outcome.ErrLost
	}
	return nil
}

func (s *Session) selectDB(db string) rueidis.Completed {
	n, _ := strconv.ParseInt(db, 10, 64)
	return s.conn.B().Select().Index(n).Build()
}
