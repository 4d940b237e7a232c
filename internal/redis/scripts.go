package redis

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/outcome"
)

// demands returns what a batch asks for.
func (s *session) demands(batch []*operation) (d demand, now time.Time) {
	for _, o := range batch {
		if len(o.uses) == 0 {
			continue
		}
		if now.IsZero() {
			now = time.Now()
		}
		d.add(o.uses, o.guarded, &s.scripts, now)
	}
	return d, now
}

// provide keeps and loads the scripts of a batch before it is sent. It returns those operations
// that can be sent. The others are to be tried again, and so are all if there is an error, which
// ends the session.
func (s *session) provide(ctx context.Context, batch []*operation) ([]*operation, error) {
	d, now := s.demands(batch)
	if d.empty() {
		return batch, nil
	}
	if d.doubt {
		clear(s.scripts.ready)
		clear(s.scripts.kept)
	}
	later, err := s.supply(ctx, &d, now)
	if err == nil && later == nil {
		return batch, nil
	}
	s.pause, s.lonely = 0, false // of those that wait alone
	return slices.DeleteFunc(slices.Clone(batch), func(o *operation) bool {
		if err == nil && !slices.ContainsFunc(o.uses, func(u scriptUse) bool { return u.kind == loads || u.kind == flushes }) {
			return false
		}
		if o.cause = err; err == nil {
			o.cause, s.pause = later, retryPause
		}
		s.again = append(s.again, o)
		return true
	}), err
}

// supply keeps, drops and loads scripts. later is why nothing can be kept or dropped for the
// moment. An error ends the session.
func (s *session) supply(ctx context.Context, d *demand, now time.Time) (later, err error) {
	var texts []rueidis.RedisMessage // of those that are needed; and whether the process has them
	there := make([]int64, len(d.need))
	for range 2 { // a SCRIPT FLUSH takes those of ours along
		var cmds rueidis.Commands
		var of []*Script
		add := func(script *Script, args []string) {
			cmds = append(cmds, s.call(script, s.keptKeys(), s.head(len(args)), args))
			of = append(of, script)
		}
		if d.drop {
			add(dropScripts, nil)
		}
		// Of more than can be kept, the last.
		for some := range slices.Chunk(d.keep[max(0, len(d.keep)-maxKeptScripts):], maxSingles) {
			add(keepScripts, keepArgs(some))
		}
		if len(d.need) > 0 {
			add(findScripts, d.need)
			cmds = append(cmds, s.conn.B().ScriptExists().Sha1(d.need...).Build())
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
			case isNoScript(err):
				s.forget(script)
				lost = true
			case outcome.FateOf(err, true) == outcome.Later && script != findScripts:
				if ended := s.refused(err); ended != nil {
					return nil, ended
				}
				later = err
			case err == nil && script == keepScripts:
				note(s.scripts.kept, shasOf(d.keep), now)
			case err == nil && script == findScripts:
				texts, _ = m.ToArray()
			}
		}
		if len(d.need) > 0 {
			if list, err := answers[len(answers)-1].AsIntSlice(); err == nil && len(list) == len(d.need) {
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
func (s *session) load(ctx context.Context, d *demand, there []int64, texts []rueidis.RedisMessage, now time.Time) error {
	var cmds rueidis.Commands
	var ready, asked []string
	for i, sha := range d.need {
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
	if !d.doubt { // else they may go with the batch
		note(s.scripts.ready, ready, now)
	}
	return nil
}

// doubt takes nothing of an operation's scripts for granted any more where Redis
// turned out not to have one: somebody else has flushed them.
func (s *session) doubt(o *operation) {
	if len(o.uses) == 0 {
		return
	}
	for i := range o.results {
		if err := o.results[i].Err; err == nil || !strings.HasPrefix(Words(err), "NOSCRIPT ") {
			continue
		}
		for _, u := range o.uses {
			delete(s.scripts.ready, u.sha)
		}
		return
	}
}

// drop is the call that forgets what is kept, inside a transaction, where the call
// by a hash would fail too late.
func (s *session) drop() rueidis.Completed {
	keys := s.keptKeys()
	return s.conn.B().Eval().Script(dropScripts.Source).Numkeys(int64(len(keys))).Key(keys...).Arg(s.head(0)...).Build()
}

// keptKeys are where scripts are kept: among the records, in a cluster in the first
// slot of the shard.
func (s *session) keptKeys() []string {
	texts, used := idemPrefix+"scripts", idemPrefix+"scripts-used"
	if s.w.slot != nil {
		slot := s.w.slot()
		texts, used = recordIn(slot, texts), recordIn(slot, used)
	}
	return []string{texts, used}
}
