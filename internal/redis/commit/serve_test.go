package commit

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/ack"
	"holdfast/internal/redis/command"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/election"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/redis/request"
)

// confirmed is what the nodes say: the master with these replicas, and what
// each has confirmed.
func confirmed(replicas ...election.Replica) election.Snapshot {
	return election.Snapshot{
		Verdict: election.Verdict{Master: "m"}, Sentinels: []string{"m", "m", "m"}, DownAfter: 500 * time.Millisecond, Asked: time.Now(),
		Nodes: []election.Node{{Address: "m", Master: true, Offset: 120, Replicas: replicas}},
	}
}

// scripted is a monitor whose next round is known.
type scripted struct {
	*discovery.Monitor
	round election.Snapshot
}

func (s *scripted) Confirm(context.Context) (election.Snapshot, error) { return s.round, nil }

// settled is a session that has carried out a write and a read, at a master with two
// replicas in sync. Whoever asks hears that round.
func settled(t *testing.T, round election.Snapshot) (s *Session, write, read *operation.Operation) {
	t.Helper()
	m := discovery.New(config.Config{Sentinels: []string{"s"}}.WithDefaults().MonitorConfig())
	m.Publish(confirmed(election.Replica{Address: "a", Offset: 100}, election.Replica{Address: "b", Offset: 100}))
	w := &Writer{monitor: &scripted{m, round}, cfg: config.Config{Sentinels: []string{"s"}, MinAcks: 1}.WithDefaults()}
	s = &Session{w: w, Master: "m", offset: 100, inSync: ack.NewInSync("a", "b"), proven: time.Now()}
	for _, o := range []**operation.Operation{&write, &read} {
		*o = &operation.Operation{Done: make(chan error, 1)}
		(*o).State.Store(operation.Taken)
		s.done = append(s.done, *o)
	}
	write.Writes = true
	return s, write, read
}

func TestAnOperationIsAnsweredWhenItsReplicasHaveIt(t *testing.T) {
	both := confirmed(election.Replica{Address: "a", Offset: 100}, election.Replica{Address: "b", Offset: 100})
	oneLeft := confirmed(election.Replica{Address: "a", Offset: 100})
	noneLeft := confirmed()
	lacking := confirmed(election.Replica{Address: "a", Offset: 100}, election.Replica{Address: "b", Offset: 90})
	change := func(s election.Snapshot, change func(*election.Snapshot)) election.Snapshot { change(&s); return s }
	replaced := change(oneLeft, func(s *election.Snapshot) { s.Master = "x" })
	nobody := change(oneLeft, func(s *election.Snapshot) { s.Master = "" })
	minority := change(oneLeft, func(s *election.Snapshot) {
		s.Sentinels = []string{"m", "", ""}
		s.Nodes = append(s.Nodes, election.Node{Address: "b"})
	})
	doubted := change(oneLeft, func(s *election.Snapshot) { s.Doubted = true; s.Nodes = append(s.Nodes, election.Node{Address: "b"}) })

	for name, c := range map[string]struct {
		acks        int
		err         error
		proof       time.Duration // its age
		round       election.Snapshot
		write, read bool // they are answered
		ends        bool // the session does
		third       bool // there is a third replica, which is not in sync
	}{
		"both replicas have it, and a proof is young":        {acks: 2, round: lacking, write: true, read: true},
		"the proof is old, and everybody stands by it":       {acks: 2, proof: time.Second, round: both, write: true, read: true},
		"the proof is old, and another one is the master":    {acks: 2, proof: time.Second, round: replaced, ends: true},
		"the proof is old, and nobody is the master":         {acks: 2, proof: time.Second, round: nobody, ends: true},
		"the proof is old, and no majority is heard":         {acks: 2, proof: time.Second, round: minority},
		"the proof is old, and a Sentinel doubts the master": {acks: 2, proof: time.Second, round: doubted},
		"both confirm, and a third may be promoted":          {acks: 2, round: replaced, third: true, ends: true},
		"one confirms, and the other lacks it":               {acks: 1, round: lacking},
		"one confirms, and the other is gone":                {acks: 1, round: oneLeft, write: true, read: true},
		"one confirms, and another one is the master":        {acks: 1, round: replaced, ends: true},
		"one confirms, and no majority is heard":             {acks: 1, round: minority},
		"nobody confirms, and nobody is there":               {acks: 0, round: noneLeft, read: true},
		"the answer to WAIT is lost":                         {acks: 2, err: outcome.ErrLost, round: both, ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, write, read := settled(t, c.round)
			s.proven = s.proven.Add(-c.proof)
			if c.third {
				s.w.monitor.(*scripted).Publish(confirmed(election.Replica{Address: "a", Offset: 100}, election.Replica{Address: "b", Offset: 100}, election.Replica{Address: "c", Offset: 1}))
			}
			err := s.settle(t.Context(), c.acks, c.err)
			is := func(o *operation.Operation) bool { return o.State.Load() == operation.Finished }
			if is(write) != c.write || is(read) != c.read || (err != nil) != c.ends {
				t.Errorf("the write is answered: %v, the read: %v, the session: %v", is(write), is(read), err)
			}
		})
	}
}

// An attempt's answers, as Redis and a broken connection give them.
func TestWhatBecomesOfAnOperationFollowsFromItsAnswers(t *testing.T) {
	node := redistest.Start(t, 0, 0).Nodes[0]
	cfg := config.Config{Username: redistest.Username, Password: redistest.Password}.WithDefaults()
	l := cfg.ConnTo(node.Addr, conn.Pipelining)
	defer l.Stop()
	away := cfg.ConnTo("127.0.0.1:1", conn.Pipelining)
	defer away.Stop()
	b := l.B()
	var ok rueidis.RedisResult
	redistest.Eventually(t, 5*time.Second, "there is a connection", func() bool {
		ok = l.DoMulti(t.Context(), b.Incr().Key("n").Build())[0]
		return ok.Error() == nil
	})
	later := l.DoMulti(t.Context(), b.Eval().Script("return redis.error_reply('NOREPLICAS Not enough good replicas to write.')").Numkeys(0).Build())[0]
	gone := away.DoMulti(t.Context(), away.B().Ping().Build())[0]

	for name, c := range map[string]struct {
		answers    []rueidis.RedisResult
		reads      bool
		record     string
		unsent     bool
		want       operation.Next
		kind       outcome.Kind // of the outcome, when that is all
		second     outcome.Kind // of the second command's own
		mayHaveRun bool
	}{
		"both happened":                          {answers: []rueidis.RedisResult{ok, ok}, want: operation.Settle},
		"one happened and one certainly did not": {answers: []rueidis.RedisResult{ok, later}, want: operation.Settle, second: outcome.NotExecuted},
		"neither happened":                       {answers: []rueidis.RedisResult{later, later}, want: operation.Repeat},
		"one has no answer":                      {answers: []rueidis.RedisResult{ok, gone}, want: operation.Decided, kind: outcome.Unknown},
		"neither has":                            {answers: []rueidis.RedisResult{gone, gone}, want: operation.Decided, kind: outcome.Unknown},
		"neither was sent":                       {answers: []rueidis.RedisResult{gone, gone}, unsent: true, want: operation.Repeat},
		"reads without an answer":                {answers: []rueidis.RedisResult{gone, gone}, reads: true, want: operation.Repeat},
		"a record keeps them apart":              {answers: []rueidis.RedisResult{gone, gone}, record: "r", want: operation.Repeat, mayHaveRun: true},
	} {
		o := &operation.Operation{
			Cmds: []command.Command{{"INCR", "n"}, {"INCR", "n"}}, Effects: []bool{!c.reads, !c.reads}, Writes: !c.reads,
			Record: c.record, Brief: true, Done: make(chan error, 1),
		}
		o.State.Store(operation.Taken)
		s := &Session{w: New(cfg, nil), wire: new(conn.Tracked), loaded: map[*request.Script]bool{}}
		then, _ := s.read(o, c.answers, !c.unsent)
		if then != c.want || o.Sent != c.mayHaveRun {
			t.Errorf("%s: %v, and it may have run before: %v", name, then, o.Sent)
			continue
		}
		if then == operation.Decided {
			if err := <-o.Done; outcome.KindOf(err) != c.kind {
				t.Errorf("%s: %v", name, err)
			}
		}
		if c.second != 0 && outcome.KindOf(o.Results[1].Err) != c.second {
			t.Errorf("%s: the second is told %v", name, o.Results[1].Err)
		}
	}
}

// serving is a writer whose monitor asks nobody and says what it is told.
func serving(cfg config.Config, now election.Snapshot) *Writer {
	m := discovery.New(cfg.MonitorConfig())
	m.Publish(now)
	return New(cfg, m)
}

func TestARefusalTellsOfTheNode(t *testing.T) {
	for text, c := range map[string]struct{ pause, lonely, busy, ends bool }{
		"NOREPLICAS Not enough good replicas to write.":         {pause: true, lonely: true},
		"BUSY Redis is busy running a script.":                  {pause: true, busy: true},
		"TRYAGAIN Multiple keys request during rehashing":       {pause: true},
		"CLUSTERDOWN The cluster is down":                       {pause: true},
		"READONLY You can't write against a read only replica.": {ends: true},
	} {
		w := serving(config.Config{}.WithDefaults(), election.Snapshot{})
		s := &Session{w: w}
		err := s.refused(errors.New(text))
		if s.pause > 0 != c.pause || s.lonely != c.lonely || w.busy.Load() > 0 != c.busy || err != nil != c.ends {
			t.Errorf("%s: a pause of %v, lonely: %v, busy since %d, %v", text, s.pause, s.lonely, w.busy.Load(), err)
		}
	}
}

// waits puts a write into the queue and serves for a while. It reports whether the
// write is still there, and why the session ended.
func waits(t *testing.T, w *Writer, master string, during func(*operation.Operation)) (still bool, cause error) {
	t.Helper()
	o := &operation.Operation{Cmds: []command.Command{{"SET", "k", "v"}}, Effects: []bool{true}, Frees: []bool{false}, Writes: true, Brief: true, Async: true, Done: make(chan error, 1)}
	o.Until = time.Now().Add(time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- w.serve(ctx, master) }()
	if during != nil {
		redistest.Eventually(t, 5*time.Second, "there is a session", func() bool { return w.session.Load() != nil })
		during(o)
	}
	if err := w.put(o); err != nil {
		t.Fatal(err)
	}
	select {
	case cause = <-ended:
	case <-time.After(500 * time.Millisecond):
		cancel()
		cause = <-ended
	}
	return o.State.Load() == operation.Queued, cause
}

func TestNothingIsSentToANodeThatMayBeNoMaster(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	master, replica := cluster.Nodes[0].Addr, cluster.Nodes[1].Addr
	cfg := config.Config{Address: master, Username: redistest.Username, Password: redistest.Password, MinAcks: 1}.WithDefaults()
	says := func(addr string, sentinels ...string) election.Snapshot {
		return election.Snapshot{Verdict: election.Verdict{Master: addr}, Sentinels: sentinels, Nodes: []election.Node{
			{Address: addr, Answered: true, Master: true, Replicas: []election.Replica{{Address: replica, Offset: 1}}}, {Address: "c"},
		}}
	}
	if still, cause := waits(t, serving(cfg, says(master)), master, nil); still {
		t.Fatalf("the master itself gets nothing: %v", cause)
	}
	if still, cause := waits(t, serving(cfg, says(replica)), replica, nil); !still || cause == nil || !strings.Contains(cause.Error(), "not a master") {
		t.Errorf("the node says that it is a replica: %v, and it was sent something: %v", cause, !still)
	}
	again := serving(cfg, says(master))
	again.last = master
	if still, _ := waits(t, again, master, nil); !still {
		t.Error("the last session with it has ended, and nobody has been asked since")
	}
	if still, cause := waits(t, serving(cfg, says(master, master, "", "")), master, nil); !still || !errors.Is(cause, errUncertain) {
		t.Errorf("no majority of Sentinels is heard: %v, and it was sent something: %v", cause, !still)
	}
	doubtful := serving(cfg, says(master))
	if still, _ := waits(t, doubtful, master, func(*operation.Operation) { doubtful.monitor.(*discovery.Monitor).Publish(election.Snapshot{}) }); !still {
		t.Error("the evidence contradicts itself")
	}
}
