package commit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/config"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
)

// A script makes up its commands as it runs, so that they cannot be checked before. It
// may do what its Redis user may. So clients' scripts run as Redis users of their own,
// which may do no more than the client (Config.ScriptUser): our own connection logs in
// as one of them for the script, and as ourselves again after it.
//
// If the login failed, the script would run as ourselves. A client cannot make it fail:
// Redis accepts AUTH also while it is busy or loading, and checks only the name and the
// password. The session checks these before the first script and again from time to
// time.

// loginsHold is after how long a session checks again that it can log in as the users
// that run scripts.
const loginsHold = time.Second

// logIn logs in as a user.
func (s *Session) logIn(as *config.Login) rueidis.Completed {
	name := as.Username
	if name == "" {
		name = "default"
	}
	return s.conn.B().Arbitrary("AUTH").Args(name, as.Password).Build()
}

// logBack logs in as ourselves.
func (s *Session) logBack() rueidis.Completed {
	return s.logIn(&config.Login{Username: s.w.cfg.User(), Password: s.w.cfg.Password})
}

// loggedIn takes the answer to a login. A failed login ends the session.
func (s *Session) loggedIn(err error) {
	if _, refused := rueidis.IsRedisErr(err); refused {
		s.spoil(fmt.Errorf("log in as the Redis user of scripts, or as ourselves again: %w", err))
	}
}

// checkLogins checks that the session can log in as the users that run the scripts of
// a batch. It returns those operations that can be sent; the others, and all when
// there is an error, which ends the session, are to be tried again.
func (s *Session) checkLogins(ctx context.Context, batch []*operation.Operation) ([]*operation.Operation, error) {
	if time.Since(s.loginsChecked) < loginsHold {
		return batch, nil
	}
	var logins []*config.Login
	for _, o := range batch {
		if o.Login != nil && !slices.Contains(logins, o.Login) {
			logins = append(logins, o.Login)
		}
	}
	if len(logins) == 0 {
		return batch, nil
	}

	var cmds rueidis.Commands
	for _, login := range logins {
		cmds = append(cmds, s.logIn(login))
	}
	answers, _ := s.exchange(ctx, append(cmds, s.logBack()))
	back := answers[len(logins)].Error()
	bad := map[*config.Login]error{}
	for i, login := range logins {
		if err := answers[i].Error(); err != nil {
			bad[login] = fmt.Errorf("scripts run as the Redis user %q, and it cannot log in: %w", login.Username, err)
		}
	}
	if back == nil && len(bad) == 0 {
		s.loginsChecked = time.Now()
		return batch, nil
	}
	if back != nil {
		back = fmt.Errorf("%w (%w)", outcome.ErrLost, back)
	}
	return slices.DeleteFunc(slices.Clone(batch), func(o *operation.Operation) bool {
		why := cmp.Or(back, bad[o.Login])
		if why == nil {
			return false
		}
		o.Cause, s.pause = why, RetryPause
		s.again = append(s.again, o)
		return true
	}), back
}
