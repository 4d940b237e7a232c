package ack

import (
	"testing"
	"time"

	"holdfast/internal/redis/election"
)

// The times by which an answer is trusted, and what each has to be less than. Other tests
// wait for them by name, and would wait for longer ones, too.
func TestTheTimesOfTrustAreShortEnough(t *testing.T) {
	for _, c := range []struct {
		what       string
		is, atMost time.Duration
		beyond     string
	}{
		{"ProofAge", ProofAge, 150 * time.Millisecond, "Sentinels replace a master after down-after (500 ms in a stack)"},
		{"ProofEvery", ProofEvery, ProofAge / 2, "a proof is made anew before it is too old"},
		{"MaxResponseGap", MaxResponseGap, 30 * time.Millisecond, "a Sentinel turns the other replicas at its next tick but one, 50 ms after it has promoted one"},
	} {
		if c.is <= 0 || c.is > c.atMost {
			t.Errorf("%s is %v and may be %v at most: %s", c.what, c.is, c.atMost, c.beyond)
		}
	}
}

// healthy is a session with two replicas in sync, and its last proof so long ago.
func healthy(proof time.Duration) State {
	now := time.Now()
	return State{Now: now, MinAcks: 1, InSync: 2, Online: 2, Others: 2, Proven: now.Add(-proof)}
}

// The whole rule: what becomes of a write and of a read after a WAIT, and after a round of
// questions where one is needed.
func TestWhenAWriteIsAcknowledgedAndAReadAnswered(t *testing.T) {
	both := roundOf(replica("a", 100), replica("b", 100))
	lacking := roundOf(replica("a", 100), replica("b", 90))
	oneLeft := roundOf(replica("a", 100))
	change := func(round election.Snapshot, change func(*election.Snapshot)) election.Snapshot {
		change(&round)
		return round
	}
	replaced := change(oneLeft, func(s *election.Snapshot) { s.Master = "x" })
	nobody := change(oneLeft, func(s *election.Snapshot) { s.Master = "" })
	minority := change(oneLeft, func(s *election.Snapshot) {
		s.Sentinels = []string{"m", "", ""}
		s.Nodes = append(s.Nodes, election.Node{Address: "b"})
	})
	doubted := change(oneLeft, func(s *election.Snapshot) {
		s.Doubted = true
		s.Nodes = append(s.Nodes, election.Node{Address: "b"})
	})

	for name, c := range map[string]struct {
		acks        int
		proof       time.Duration // its age
		change      func(*State)
		only        Needs // of those that wait; zero: a write and a read
		decision    Decision
		round       election.Snapshot // where the decision is to ask
		judgement   Judgement
		write, read bool // whether they are answered
	}{
		"both replicas have it, and the proof is young": {acks: 2, decision: Answer, write: true, read: true},
		"the proof is old, and all stand by the master": {
			acks: 2, proof: ProofAge, decision: Ask, round: both, judgement: Confirmed, write: true, read: true},
		"the proof is old, and another node is the master": {acks: 2, proof: ProofAge, decision: Ask, round: replaced, judgement: Replaced},
		"the proof is old, and no node is the master":      {acks: 2, proof: ProofAge, decision: Ask, round: nobody, judgement: Replaced},
		"the proof is old, and no majority is heard":       {acks: 2, proof: ProofAge, decision: Ask, round: minority, judgement: Doubtful},
		"the proof is old, and a Sentinel doubts":          {acks: 2, proof: ProofAge, decision: Ask, round: doubted, judgement: Doubtful},
		"both have it, and a third could be promoted": {
			acks: 2, change: func(s *State) { s.Others = 3 }, decision: Ask, round: replaced, judgement: Replaced},
		"one has it, and the other lacks it":       {acks: 1, decision: Ask, round: lacking, judgement: Confirmed},
		"one has it, and the other is gone":        {acks: 1, decision: Ask, round: oneLeft, judgement: Confirmed, write: true, read: true},
		"one has it, and another is the master":    {acks: 1, decision: Ask, round: replaced, judgement: Replaced},
		"no replica has it, and none is there":     {acks: 0, decision: Ask, round: roundOf(), judgement: Confirmed, read: true},
		"no replica has a write, and nothing read": {acks: 0, only: Needs{Write: true}, decision: Wait},
		"more replicas have to have a write than there are": {
			acks: 2, change: func(s *State) { s.MinAcks = 3 }, decision: Ask, round: both, judgement: Confirmed, read: true},
		"a read needs as many as are online": {
			acks: 1, change: func(s *State) { s.MinAcks, s.InSync, s.Online, s.Others = 3, 1, 1, 1 }, only: Needs{Read: true},
			decision: Answer, read: true},
		"a single Redis": {
			change: func(s *State) { *s = State{Now: s.Now, Alone: true} }, decision: Answer, write: true, read: true},
		"a single Redis whose replica has to have a write": {
			acks: 0, change: func(s *State) { *s = State{Now: s.Now, Alone: true, MinAcks: 1} }, only: Needs{Write: true}, decision: Wait},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(c.proof)
			if c.change != nil {
				c.change(&s)
			}
			needs := c.only
			if needs == (Needs{}) {
				needs = Needs{Write: true, Read: true}
			}
			decision := s.Decide(needs, c.acks)
			if decision != c.decision {
				t.Fatalf("the decision is %v, want %v", decision, c.decision)
			}
			write, read := decision == Answer && needs.Write, decision == Answer && needs.Read
			if decision == Ask {
				judgement := Judge(c.round, "m")
				if judgement != c.judgement {
					t.Fatalf("the judgement is %v, want %v", judgement, c.judgement)
				}
				if judgement == Confirmed && inSync("a", "b").agreed(c.round) {
					write, read = s.Answered(true, c.acks), s.Answered(false, c.acks)
				}
			}
			if write != c.write || read != c.read {
				t.Errorf("the write is answered: %v, the read: %v", write, read)
			}
		})
	}
}

func TestHowManyReplicasAreWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		state State
		needs Needs
		want  int
	}{
		"a write, every one in sync":                  {State{MinAcks: 1, InSync: 2}, Needs{Write: true}, 2},
		"a write, at least the least number":          {State{MinAcks: 2, InSync: 1}, Needs{Write: true}, 2},
		"a read, every one in sync":                   {State{MinAcks: 1, InSync: 2, Online: 2}, Needs{Read: true}, 2},
		"a read with none in sync, one that is there": {State{MinAcks: 1, Online: 2}, Needs{Read: true}, 1},
		"a read with none there":                      {State{MinAcks: 1}, Needs{Read: true}, 0},
		"a write that waits for none":                 {State{MinAcks: 1, InSync: 2}, Needs{Async: true}, 0},
		"both":                                        {State{MinAcks: 2, InSync: 1, Online: 1}, Needs{Write: true, Read: true}, 2},
	} {
		if got := c.state.Replicas(c.needs); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	if !AtOnce(true, true) || AtOnce(true, false) || AtOnce(false, true) {
		t.Error("only a write that does not wait is answered at once")
	}
}

func TestAProofIsMadeInTimeAndByAllInSync(t *testing.T) {
	if s := healthy(ProofEvery); !s.ProofDue() || !s.Proves(2) || s.Proves(1) {
		t.Error("no proof is due, or one replica of two makes it")
	}
	if s := healthy(ProofEvery / 2); s.ProofDue() {
		t.Error("a proof is due that is young")
	}
	alone := State{Now: time.Now(), Alone: true, InSync: 1}
	deserted := State{Now: time.Now()}
	if alone.ProofDue() || deserted.ProofDue() || deserted.Proves(0) {
		t.Error("a proof is due, or made, where nobody could confirm it or be promoted")
	}
}
