package commit

import (
	"errors"
	"testing"
	"time"

	"holdfast/internal/redis/config"
	"holdfast/internal/redis/election"
)

// What is held while a master is elected is answered soon after: nothing of our
// own is to be waited for then.

func TestAMasterWithoutReplicasIsAskedAgainSoon(t *testing.T) {
	const lonely, none = "NOREPLICAS Not enough good replicas to write.", -1
	for _, c := range []struct {
		refusal string
		waited  time.Duration // none: no WAIT went behind it
		want    time.Duration
	}{
		{lonely, none, RetryPause},
		{lonely, 0, RetryPause}, // a WAIT that does not wait: else it would be asked all the time
		{lonely, RetryPause / 5, RetryPause * 4 / 5},
		{lonely, RetryPause - replicaPause, replicaPause},
		{lonely, RetryPause, replicaPause},
		{lonely, time.Second, replicaPause},
		{"BUSY Redis is busy running a script.", time.Second, RetryPause},
		{"TRYAGAIN Multiple keys request during rehashing of slot", time.Second, RetryPause},
	} {
		s := &Session{w: serving(config.Config{}.WithDefaults(), election.Snapshot{})}
		if err := s.refused(errors.New(c.refusal)); err != nil {
			t.Errorf("%s: it ends the session: %v", c.refusal, err)
		}
		if c.waited != none {
			s.waited(c.waited)
		}
		if s.pause != c.want {
			t.Errorf("%s, with a WAIT behind it of %v: again after %v, want %v", c.refusal, c.waited, s.pause, c.want)
		}
	}
	s := new(Session)
	if s.waited(0); s.pause != 0 {
		t.Errorf("nothing was turned down, and there is a pause of %v", s.pause)
	}
}
