package commit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/once"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/scripts"
)

// demands returns what a batch asks for.
func (s *Session) demands(batch []*operation.Operation) (d scripts.Demand, now time.Time) {
	for _, o := range batch {
		if len(o.Uses) == 0 {
			continue
		}
		if now.IsZero() {
			now = time.Now()
		}
		d.Add(o.Uses, o.Guarded, &s.scripts, now)
	}
	return d, now
}

// provide keeps and loads the scripts of a batch before it is sent. It returns those operations
// that can be sent. The others are to be tried again, and so are all if there is an error, which
// ends the session.
func (s *Session) provide(ctx context.Context, batch []*operation.Operation) ([]*operation.Operation, error) {
	d, now := s.demands(batch)
	if d.Empty() {
		return batch, nil
	}
	if d.Doubt {
		clear(s.scripts.Ready)
		clear(s.scripts.Kept)
	}
	later, err := s.supply(ctx, &d, now)
	if err == nil && later == nil {
		return batch, nil
	}
	s.pause, s.lonely = 0, false // of those that wait alone
	return slices.DeleteFunc(slices.Clone(batch), func(o *operation.Operation) bool {
		if err == nil && !slices.ContainsFunc(o.Uses, func(u scripts.Use) bool { return u.Kind == scripts.Loads || u.Kind == scripts.Flushes }) {
			return false
		}
		if o.Cause = err; err == nil {
			o.Cause, s.pause = later, RetryPause
		}
		s.again = append(s.again, o)
		return true
	}), err
}

// supply keeps, drops and loads scripts. later is why nothing can be kept or dropped for the
// moment. An error ends the session.
func (s *Session) supply(ctx context.Context, d *scripts.Demand, now time.Time) (later, err error) {
	var texts []rueidis.RedisMessage // of those that are needed; and whether the process has them
	there := make([]int64, len(d.Need))
	for range 2 { // a SCRIPT FLUSH takes those of ours along
		var cmds rueidis.Commands
		var of []*request.Script
		add := func(script *request.Script, args []string) {
			cmds = append(cmds, s.call(script, s.keptKeys(), s.head(len(args)), args))
			of = append(of, script)
		}
		if d.Drop {
			add(scripts.Drop, nil)
		}
		// Of more than can be kept, the last.
		for some := range slices.Chunk(d.Keep[max(0, len(d.Keep)-scripts.MaxKept):], maxSingles) {
			add(scripts.Keep, scripts.KeepArgs(some))
		}
		if len(d.Need) > 0 {
			add(scripts.Find, d.Need)
			cmds = append(cmds, s.conn.B().ScriptExists().Sha1(d.Need...).Build())
		}
		if len(cmds) == 0 {
			return nil, nil
		}
		answers, _ := s.exchange(ctx, cmds)
		if err := answers[len(answers)-1].NonRedisError(); err != nil {
			return nil, fmt.Errorf("%w (%w)", outcome.ErrLost, err)
		}
		lost := false
		later = nil
		for i, script := range of {
			m, err := answers[i].ToMessage()
			switch {
			case once.IsNoScript(err):
				s.forget(script)
				lost = true
			case outcome.FateOf(err, true) == outcome.Later && script != scripts.Find:
				if ended := s.refused(err); ended != nil {
					return nil, ended
				}
				later = err
			case err == nil && script == scripts.Keep:
				scripts.Note(s.scripts.Kept, scripts.SHAsOf(d.Keep), now)
			case err == nil && script == scripts.Find:
				texts, _ = m.ToArray()
			}
		}
		if len(d.Need) > 0 {
			if list, err := answers[len(answers)-1].AsIntSlice(); err == nil && len(list) == len(d.Need) {
				there = list
			}
		}
		if !lost {
			break
		}
	}
	return later, s.load(ctx, d, there, texts, now)
}

// load gives the process those scripts that it lacks and that are kept.
func (s *Session) load(ctx context.Context, d *scripts.Demand, there []int64, texts []rueidis.RedisMessage, now time.Time) error {
	var cmds rueidis.Commands
	var ready, asked []string
	for i, sha := range d.Need {
		if there[i] == 1 {
			ready = append(ready, sha)
		} else if i < len(texts) {
			if text, err := texts[i].ToString(); err == nil {
				cmds = append(cmds, s.conn.B().ScriptLoad().Script(text).Build())
				asked = append(asked, sha)
			}
		}
	}
	if len(cmds) > 0 {
		answers, _ := s.exchange(ctx, cmds)
		if err := answers[len(answers)-1].NonRedisError(); err != nil {
			return fmt.Errorf("%w (%w)", outcome.ErrLost, err)
		}
		for i, a := range answers {
			if a.Error() == nil { // else it is not well formed, and Redis has words for its hash
				ready = append(ready, asked[i])
			}
		}
	}
	if !d.Doubt { // else they may go with the batch
		scripts.Note(s.scripts.Ready, ready, now)
	}
	return nil
}

// doubt takes nothing of an operation's scripts for granted any more where Redis
// turned out not to have one: somebody else has flushed them.
func (s *Session) doubt(o *operation.Operation) {
	if len(o.Uses) == 0 {
		return
	}
	for i := range o.Results {
		if err := o.Results[i].Err; err == nil || !strings.HasPrefix(outcome.Words(err), "NOSCRIPT ") {
			continue
		}
		for _, u := range o.Uses {
			delete(s.scripts.Ready, u.SHA)
		}
		return
	}
}

// drop is the call that forgets what is kept, inside a transaction, where the call
// by a hash would fail too late.
func (s *Session) drop() rueidis.Completed {
	keys := s.keptKeys()
	return s.conn.B().Eval().Script(scripts.Drop.Source).Numkeys(int64(len(keys))).Key(keys...).Arg(s.head(0)...).Build()
}

// keptKeys are where scripts are kept: among the records, in a cluster in the first
// slot of the shard.
func (s *Session) keptKeys() []string {
	texts, used := once.Prefix+"scripts", once.Prefix+"scripts-used"
	if s.w.slot != nil {
		slot := s.w.slot()
		texts, used = once.RecordIn(slot, texts), once.RecordIn(slot, used)
	}
	return []string{texts, used}
}
