package commit

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/once"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
)

// read takes the answers to the operation's commands. broken is why the session is of no
// more use; nil: it is.
func (s *Session) read(o *operation.Operation, answers []rueidis.RedisResult, sent bool) (then operation.Next, broken error) {
	o.Results = o.Results[:0]
	answers = s.ownAnswers(o, answers)
	if o.Bounded != operation.Unbounded && len(answers) > 1 {
		if answers, then = o.ReadBounded(answers); len(answers) == 0 || then != operation.Settle {
			return then, nil
		}
	}
	switch {
	case o.Script != nil:
		return s.readScript(o, answers[0], sent)
	case o.Whole():
		return s.readWhole(o, answers[0], sent)
	case o.Atomic:
		return s.readTransaction(o, answers, sent)
	}
	var done, again, gone bool // writes that happened, that did not, that may have
	unanswered := false
	var cause error
	for i, a := range answers {
		m, err := a.ToMessage()
		if err == nil && o.Record != "" && o.Effects[i] {
			m, err = operation.Element(m, o.Place)
		}
		fate := outcome.FateOf(err, sent)
		if fate == outcome.Rejected && o.Record != "" && o.Effects[i] && once.IsNoScript(err) {
			s.forget(once.Each)
			s.forget(once.PlainSets)
			s.forget(once.InCluster)
			s.forget(once.FreeingInCluster)
			fate = outcome.Later
		}
		switch fate {
		case outcome.Executed:
			done = done || o.Effects[i]
			o.Results = append(o.Results, request.Result{Reply: o.Reply(i, m)})
		case outcome.Rejected:
			if o.Record != "" && o.Effects[i] && once.IsGone(err) {
				done = true
				o.Results = append(o.Results, request.Result{Err: &outcome.Error{Kind: outcome.Unknown, Cause: once.ErrDone}})
				break
			}
			o.Results = append(o.Results, request.Result{Err: o.Refusal(outcome.WordsOf(m))})
		case outcome.Later:
			again = true
			if !once.IsNoScript(err) {
				broken = cmp.Or(broken, s.refused(err))
			}
			cause = err
			o.Results = append(o.Results, request.Result{Err: &outcome.Error{Kind: outcome.NotExecuted, Cause: err}})
		case outcome.Lost:
			broken = fmt.Errorf("%w (%w)", outcome.ErrLost, err)
			cause, unanswered = broken, true
			if o.Effects[i] {
				gone = true
			} else {
				again = true
			}
			o.Results = append(o.Results, request.Result{Err: &outcome.Error{Kind: outcome.Unknown, Cause: err}})
		}
	}
	switch {
	case !again && !gone:
		return operation.Settle, nil
	case o.Record == "" && gone:
		o.Finish(&outcome.Error{Kind: outcome.Unknown, Cause: cause})
		return operation.Decided, broken
	case o.Record == "" && done:
		// Some commands happened and some certainly did not: each has its own result.
		return operation.Settle, broken
	}
	o.Sent = o.Sent || done || gone
	if unanswered && !o.MayRepeat(s.loss()) {
		o.Finish(o.Lost(cause, s.loss()))
		return operation.Decided, broken
	}
	o.Cause = cause
	return operation.Repeat, broken
}

func (s *Session) readScript(o *operation.Operation, a rueidis.RedisResult, sent bool) (operation.Next, error) {
	m, err := a.ToMessage()
	switch outcome.FateOf(err, sent) {
	case outcome.Executed:
		o.Results = append(o.Results, request.Result{Reply: resp.FromMessage(m)})
		return operation.Settle, nil
	case outcome.Rejected:
		if once.IsNoScript(err) {
			s.forget(o.Script)
			o.Cause = err
			return operation.Repeat, nil
		}
		if once.IsGone(err) {
			o.Finish(&outcome.Error{Kind: outcome.Unknown, Cause: once.ErrDone})
			return operation.Decided, nil
		}
		o.Results = append(o.Results, request.Result{Err: o.Refusal(outcome.WordsOf(m))})
		return operation.Settle, nil
	case outcome.Later:
		o.Cause = err
		return operation.Repeat, s.refused(err)
	}
	return o.Lose(outcome.ErrLost, s.loss()), outcome.ErrLost
}

// readTransaction takes the answers to MULTI, the commands, and EXEC. If Redis refused to
// queue any of the commands, EXEC does nothing (manual, "Transactions", errors inside a
// transaction).
func (s *Session) readTransaction(o *operation.Operation, answers []rueidis.RedisResult, sent bool) (operation.Next, error) {
	exec := answers[len(answers)-1]
	err := exec.NonRedisError()
	if err != nil {
		if !sent {
			o.Cause = err
			return operation.Repeat, outcome.ErrLost
		}
		return o.Lose(outcome.ErrLost, s.loss()), outcome.ErrLost
	}
	all, err := exec.ToArray()
	if err == nil {
		if o.Login != nil && len(all) > 0 {
			s.loggedIn(all[0].Error())
			all = all[1:]
		}
		o.Results = once.Results(all)
		return operation.Settle, nil
	}
	cause, may := operation.Aborted(answers)
	if !operation.Transacted(answers) {
		// Without MULTI the commands were carried out one by one.
		return o.Lose(cause, operation.Loss{}), cause
	}
	if may {
		o.Cause = cause
		return operation.Repeat, s.refused(cause)
	}
	o.Finish(o.Refusal(&operation.Discarded{Cause: cause}))
	return operation.Decided, nil
}

// aboutScript reports whether Redis refused the script before it did anything, and not the
// transaction: our user has no right to scripts, or in a cluster no right to write to all of the
// keys, or an administrator has ended it (SCRIPT KILL).
func aboutScript(words error) bool {
	code, rest, _ := strings.Cut(words.Error(), " ")
	return code == "NOPERM" || strings.Contains(rest, "Script killed by user")
}

// readWhole takes the answer of the script for a transaction.
func (s *Session) readWhole(o *operation.Operation, a rueidis.RedisResult, sent bool) (operation.Next, error) {
	m, err := a.ToMessage()
	switch outcome.FateOf(err, sent) {
	case outcome.Rejected:
		if once.IsNoScript(err) {
			s.forget(once.Transaction)
			o.Cause = err
			return operation.Repeat, nil
		}
		if words := outcome.WordsOf(m); !aboutScript(words) {
			o.Finish(o.Refusal(&operation.Discarded{Cause: words}))
		} else {
			o.Finish(ErrNoScript)
		}
		return operation.Decided, nil
	case outcome.Later:
		if words := outcome.WordsOf(m); o.Placement != nil && outcome.RedirectionOf(words).Code == "TRYAGAIN" {
			// Only its caller waits for the slot: see arrive.
			o.Finish(o.Refusal(words))
			return operation.Decided, nil
		}
		o.Cause = err
		return operation.Repeat, s.refused(err)
	case outcome.Lost:
		return o.Lose(outcome.ErrLost, s.loss()), outcome.ErrLost
	}
	switch {
	case m.IsInt64():
		o.Finish(ErrNoScript)
		return operation.Decided, nil
	case m.IsString():
		kept, _ := m.ToString()
		if o.Results, err = once.Replay([]byte(kept), len(o.Cmds)); err != nil {
			o.Finish(&outcome.Error{Kind: outcome.Unknown, Cause: err})
			return operation.Decided, nil
		}
		return operation.Settle, nil
	}
	list, _ := m.ToArray()
	if len(list) != len(o.Cmds) {
		o.Finish(&outcome.Error{Kind: outcome.Unknown, Cause: once.ErrDone})
		return operation.Decided, nil
	}
	o.Results = once.Results(list)
	for i := range list {
		if o.Results[i].Err == nil {
			o.Results[i].Reply = o.Reply(i, list[i])
		}
	}
	return operation.Settle, nil
}

// ownAnswers returns the answers to the operation's own commands without those to ASKING and to logins.
func (s *Session) ownAnswers(o *operation.Operation, answers []rueidis.RedisResult) []rueidis.RedisResult {
	asking := o.Placement != nil && o.Placement.Asking
	if !asking && o.Login == nil {
		return answers
	}
	if o.Script != nil || o.Atomic { // it holds for all of a transaction
		if asking {
			answers = answers[1:]
		}
		if o.Login != nil {
			last := len(answers) - 1
			s.loggedIn(answers[last].Error())
			answers = answers[:last]
		}
		return answers
	}
	own := make([]rueidis.RedisResult, 0, len(o.Cmds))
	at := 0
	for _, cmd := range o.Cmds {
		login := o.LoginAround(cmd) != nil
		if login {
			s.loggedIn(answers[at].Error())
			at++
		}
		if asking {
			at++
		}
		own = append(own, answers[at])
		at++
		if login {
			s.loggedIn(answers[at].Error())
			at++
		}
	}
	return own
}
