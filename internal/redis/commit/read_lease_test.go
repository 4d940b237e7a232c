package commit

import (
	"testing"
	"time"

	"holdfast/internal/redis/ack"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/election"
)

// known is a round that found a master, and so many other nodes.
func known(master string, others int) election.Snapshot {
	return election.Snapshot{Verdict: election.Verdict{Master: master}, Nodes: make([]election.Node, 1+others)}
}

// leasing is a session that has given a read lease, its last proof and its master's last
// reply so long ago.
func leasing(proof, reply time.Duration) (l *ReadLease, now time.Time) {
	now = time.Now()
	m := discovery.New(config.Config{Sentinels: []string{"s"}}.WithDefaults().MonitorConfig())
	m.Publish(known("m", 2))
	w := &Writer{monitor: m, cfg: config.Config{Sentinels: []string{"s"}}}
	s := &Session{w: w, Master: "m", inSync: ack.NewInSync("a", "b"), proven: now.Add(-proof)}
	s.elision.Heard = now.Add(-reply)
	s.elision.Proved()
	role := ack.Role{Master: true, Offset: 100, Online: 2}
	s.elision.Covered(role, 2)
	s.elision.Probed(role, 2, 100)
	s.grantReadLease()
	return w.readLease.Load(), now
}

func TestAReadLeaseIsValidWhileItsProofIsYoungAndItsMasterHeard(t *testing.T) {
	for name, c := range map[string]struct {
		proof, word time.Duration
		change      func(*ReadLease)
		want        bool
	}{
		"a young proof": {ack.ProofAge / 2, ack.MaxResponseGap / 2, nil, true},
		"an old proof":  {ack.ProofAge, ack.MaxResponseGap / 2, nil, false},
		"a master that was not heard ack.MaxResponseGap": {ack.ProofAge / 2, ack.MaxResponseGap, nil, false},
		"something spoke against it":                     {ack.ProofAge / 2, ack.MaxResponseGap / 2, func(l *ReadLease) { l.Revoked.Store(true) }, false},
		"a single Redis":                                 {time.Hour, time.Hour, func(l *ReadLease) { l.Alone = true }, true},
	} {
		l, now := leasing(c.proof, c.word)
		if c.change != nil {
			c.change(l)
		}
		if got := l.Valid(now, ack.ProofAge, l.Heard.Load()); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAReadLeaseIsBorneOutByTheMastersRoleBehindABatch(t *testing.T) {
	master := discovery.Standing{Master: true, Offset: 100}
	for name, c := range map[string]struct {
		standing discovery.Standing
		online   int
		now      election.Snapshot
		want     bool
	}{
		"as it was":                             {master, 2, known("m", 2), true},
		"it has moved on":                       {discovery.Standing{Master: true, Offset: 101}, 2, known("m", 2), false},
		"it has lost a replica":                 {master, 1, known("m", 2), false},
		"there are more who could be promoted":  {master, 2, known("m", 3), false},
		"it is a master no more":                {discovery.Standing{Offset: 100}, 2, known("m", 2), false},
		"everybody holds another one for it":    {master, 2, known("x", 2), false},
		"nobody knows who the master is by now": {master, 2, known("", 2), false},
	} {
		l, _ := leasing(0, 0)
		l.Session.w.monitor.(*discovery.Monitor).Publish(c.now)
		if got := l.ConfirmedBy(ack.Role{Master: c.standing.Master, Offset: c.standing.Offset, Online: c.online}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A session that has to wait for its replicas again gives nobody else leave not to.
func TestASessionThatNeedsConfirmationTakesItsReadLeaseBack(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Session)
		kept   bool
	}{
		"all is well":                {func(*Session) {}, true},
		"something spoke against it": {func(s *Session) { s.elision = ack.WaitElision{} }, false},
		"one left the in-sync set":   {func(s *Session) { s.inSync = ack.NewInSync("a") }, false},
		"one misses deadlines": {func(s *Session) {
			s.inSync.Agreed(confirmed(election.Replica{Address: "a"}, election.Replica{Address: "b"}), 100, time.Hour, time.Now())
		}, false},
	} {
		l, _ := leasing(0, 0)
		c.change(l.Session)
		l.Session.checkReadLease()
		if kept := l.Session.w.readLease.Load() != nil; kept != c.kept {
			t.Errorf("%s: kept is %v", name, kept)
		}
	}
}
