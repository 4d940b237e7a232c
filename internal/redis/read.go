package redis

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/once"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
)

// read takes the answers to the operation's commands. broken is why the session is of no
// more use; nil: it is.
func (s *session) read(o *operation, answers []rueidis.RedisResult, sent bool) (then next, broken error) {
	o.results = o.results[:0]
	answers = s.ownAnswers(o, answers)
	if o.bounded != unbounded && len(answers) > 1 {
		if answers, then = o.readBounded(answers); len(answers) == 0 || then != settle {
			return then, nil
		}
	}
	switch {
	case o.script != nil:
		return s.readScript(o, answers[0], sent)
	case o.whole():
		return s.readWhole(o, answers[0], sent)
	case o.atomic:
		return s.readTransaction(o, answers, sent)
	}
	var done, again, gone bool // writes that happened, that did not, that may have
	unanswered := false
	var cause error
	for i, a := range answers {
		m, err := a.ToMessage()
		if err == nil && o.record != "" && o.effects[i] {
			m, err = element(m, o.place)
		}
		fate := outcome.FateOf(err, sent)
		if fate == outcome.Rejected && o.record != "" && o.effects[i] && once.IsNoScript(err) {
			s.forget(once.Each)
			s.forget(once.PlainSets)
			s.forget(once.InCluster)
			s.forget(once.FreeingInCluster)
			fate = outcome.Later
		}
		switch fate {
		case outcome.Executed:
			done = done || o.effects[i]
			o.results = append(o.results, Result{Reply: o.reply(i, m)})
		case outcome.Rejected:
			if o.record != "" && o.effects[i] && once.IsGone(err) {
				done = true
				o.results = append(o.results, Result{Err: &Error{Kind: Unknown, Cause: once.ErrDone}})
				break
			}
			o.results = append(o.results, Result{Err: o.refusal(outcome.WordsOf(m))})
		case outcome.Later:
			again = true
			if !once.IsNoScript(err) {
				broken = cmp.Or(broken, s.refused(err))
			}
			cause = err
			o.results = append(o.results, Result{Err: &Error{Kind: NotExecuted, Cause: err}})
		case outcome.Lost:
			broken = fmt.Errorf("%w (%w)", outcome.ErrLost, err)
			cause, unanswered = broken, true
			if o.effects[i] {
				gone = true
			} else {
				again = true
			}
			o.results = append(o.results, Result{Err: &Error{Kind: Unknown, Cause: err}})
		}
	}
	switch {
	case !again && !gone:
		return settle, nil
	case o.record == "" && gone:
		o.finish(&Error{Kind: Unknown, Cause: cause})
		return decided, broken
	case o.record == "" && done:
		// Some commands happened and some certainly did not: each has its own result.
		return settle, broken
	}
	o.sent = o.sent || done || gone
	if unanswered && !o.mayRepeat(s.loss()) {
		o.finish(o.lost(cause, s.loss()))
		return decided, broken
	}
	o.cause = cause
	return repeat, broken
}

func (s *session) readScript(o *operation, a rueidis.RedisResult, sent bool) (next, error) {
	m, err := a.ToMessage()
	switch outcome.FateOf(err, sent) {
	case outcome.Executed:
		o.results = append(o.results, Result{Reply: resp.FromMessage(m)})
		return settle, nil
	case outcome.Rejected:
		if once.IsNoScript(err) {
			s.forget(o.script)
			o.cause = err
			return repeat, nil
		}
		if once.IsGone(err) {
			o.finish(&Error{Kind: Unknown, Cause: once.ErrDone})
			return decided, nil
		}
		o.results = append(o.results, Result{Err: o.refusal(outcome.WordsOf(m))})
		return settle, nil
	case outcome.Later:
		o.cause = err
		return repeat, s.refused(err)
	}
	return o.lose(outcome.ErrLost, s.loss()), outcome.ErrLost
}

// readTransaction takes the answers to MULTI, the commands, and EXEC. If Redis refused to
// queue any of the commands, EXEC does nothing (manual, "Transactions", errors inside a
// transaction).
func (s *session) readTransaction(o *operation, answers []rueidis.RedisResult, sent bool) (next, error) {
	exec := answers[len(answers)-1]
	err := exec.NonRedisError()
	if err != nil {
		if !sent {
			o.cause = err
			return repeat, outcome.ErrLost
		}
		return o.lose(outcome.ErrLost, s.loss()), outcome.ErrLost
	}
	all, err := exec.ToArray()
	if err == nil {
		if o.login != nil && len(all) > 0 {
			s.loggedIn(all[0].Error())
			all = all[1:]
		}
		o.results = once.Results(all)
		return settle, nil
	}
	cause, may := aborted(answers)
	if !transacted(answers) {
		// Without MULTI the commands were carried out one by one.
		return o.lose(cause, loss{}), cause
	}
	if may {
		o.cause = cause
		return repeat, s.refused(cause)
	}
	o.finish(o.refusal(&discarded{cause}))
	return decided, nil
}

// aboutScript reports whether Redis refused the script before it did anything, and not the
// transaction: our user has no right to scripts, or in a cluster no right to write to all of the
// keys, or an administrator has ended it (SCRIPT KILL).
func aboutScript(words error) bool {
	code, rest, _ := strings.Cut(words.Error(), " ")
	return code == "NOPERM" || strings.Contains(rest, "Script killed by user")
}

// readWhole takes the answer of the script for a transaction.
func (s *session) readWhole(o *operation, a rueidis.RedisResult, sent bool) (next, error) {
	m, err := a.ToMessage()
	switch outcome.FateOf(err, sent) {
	case outcome.Rejected:
		if once.IsNoScript(err) {
			s.forget(once.Transaction)
			o.cause = err
			return repeat, nil
		}
		if words := outcome.WordsOf(m); !aboutScript(words) {
			o.finish(o.refusal(&discarded{words}))
		} else {
			o.finish(errNoScript)
		}
		return decided, nil
	case outcome.Later:
		if words := outcome.WordsOf(m); o.site != nil && outcome.RedirectionOf(words).Code == "TRYAGAIN" {
			// Only its caller waits for the slot: see arrive.
			o.finish(o.refusal(words))
			return decided, nil
		}
		o.cause = err
		return repeat, s.refused(err)
	case outcome.Lost:
		return o.lose(outcome.ErrLost, s.loss()), outcome.ErrLost
	}
	switch {
	case m.IsInt64():
		o.finish(errNoScript)
		return decided, nil
	case m.IsString():
		kept, _ := m.ToString()
		if o.results, err = once.Replay([]byte(kept), len(o.cmds)); err != nil {
			o.finish(&Error{Kind: Unknown, Cause: err})
			return decided, nil
		}
		return settle, nil
	}
	list, _ := m.ToArray()
	if len(list) != len(o.cmds) {
		o.finish(&Error{Kind: Unknown, Cause: once.ErrDone})
		return decided, nil
	}
	o.results = once.Results(list)
	for i := range list {
		if o.results[i].Err == nil {
			o.results[i].Reply = o.reply(i, list[i])
		}
	}
	return settle, nil
}

// ownAnswers returns the answers to the operation's own commands without those to ASKING and to logins.
func (s *session) ownAnswers(o *operation, answers []rueidis.RedisResult) []rueidis.RedisResult {
	asking := o.site != nil && o.site.asking
	if !asking && o.login == nil {
		return answers
	}
	if o.script != nil || o.atomic { // it holds for all of a transaction
		if asking {
			answers = answers[1:]
		}
		if o.login != nil {
			last := len(answers) - 1
			s.loggedIn(answers[last].Error())
			answers = answers[:last]
		}
		return answers
	}
	own := make([]rueidis.RedisResult, 0, len(o.cmds))
	at := 0
	for _, cmd := range o.cmds {
		login := o.loginAround(cmd) != nil
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
