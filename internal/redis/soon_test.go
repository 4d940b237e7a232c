package redis

import (
	"errors"
	"testing"
	"time"

	"holdfast/internal/redis/election"
	"holdfast/internal/redis/redistest"
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
		{lonely, none, retryPause},
		{lonely, 0, retryPause}, // a WAIT that does not wait: else it would be asked all the time
		{lonely, retryPause / 5, retryPause * 4 / 5},
		{lonely, retryPause - replicaPause, replicaPause},
		{lonely, retryPause, replicaPause},
		{lonely, time.Second, replicaPause},
		{"BUSY Redis is busy running a script.", time.Second, retryPause},
		{"TRYAGAIN Multiple keys request during rehashing of slot", time.Second, retryPause},
	} {
		s := &session{w: serving(Config{}.withDefaults(), election.Snapshot{})}
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
	s := new(session)
	if s.waited(0); s.pause != 0 {
		t.Errorf("nothing was turned down, and there is a pause of %v", s.pause)
	}
}

// Many complaints are one round, 20 ms later; who waits for a round's outcome
// does not wait for that.
func TestComplaintsHoldNobodyUpWhoWaitsForARound(t *testing.T) {
	client := open(t, redistest.Start(t, 1, 0), nil)
	do(t, client, &Request{Commands: commands("SET warm up")})
	shortest := time.Hour
	for range 20 {
		client.monitor.look()
		for len(client.monitor.nudge) > 0 { // until the monitor has heard it
			time.Sleep(time.Millisecond)
		}
		began := time.Now()
		if _, err := client.monitor.confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		shortest = min(shortest, time.Since(began))
	}
	if shortest > 10*time.Millisecond {
		t.Errorf("a round took %v at the least", shortest)
	}
}
