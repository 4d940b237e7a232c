package readpipe

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/ack"
	"holdfast/internal/redis/command"
	"holdfast/internal/redis/commit"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/election"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
)

func asking(words ...string) *request.Request {
	return &request.Request{Commands: []command.Command{words}}
}

// unconnected returns an Express of a master with two replicas, whose session has given a read
// lease.
func unconnected(t *testing.T) *Express {
	t.Helper()
	cfg := config.Config{Sentinels: []string{"s"}}.WithDefaults()
	m := discovery.New(cfg.MonitorConfig())
	m.Publish(election.Snapshot{Verdict: election.Verdict{Master: "m"}, Nodes: make([]election.Node, 3)})
	w := commit.New(cfg, m)
	s := commit.NewSession(w, "m")
	w.Grant(s, ack.ReadLease{Others: 2, Covered: 100, Proven: time.Now()}, time.Now())
	return &Express{w: w, session: s, answers: cfg.Answers}
}

// landing has answers to so many requests come to an Express, and lands them.
func landing(t *testing.T, x *Express, count int, answers string) {
	t.Helper()
	x.count = count
	for len(x.sentAsks) < count {
		x.sentAsks = append(x.sentAsks, expressAsk{})
	}
	for len(answers) > 0 {
		n := copy(x.Room(), answers)
		answers = answers[n:]
		if whole, err := x.Got(n); err != nil || whole != (len(answers) == 0) {
			t.Fatalf("%v, %v", whole, err)
		}
	}
	x.Land(time.Now())
}

func TestABatchUsesTheMemoryOfTheOneBefore(t *testing.T) {
	const role = "*3\r\n$6\r\nmaster\r\n:123456\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$4\r\n6380\r\n$6\r\n123456\r\n"
	x := unconnected(t)
	requests := []*request.Request{asking("GET", "a"), asking("GET", "b"), asking("STRLEN", "a"), asking("GET", "c")}
	answers := func(first string) string { return first + "$-1\r\n:7\r\n+OK\r\n" + role }
	batch := func(answers string, kept bool) {
		landing(t, x, len(requests), answers)
		for i, r := range requests {
			if !x.Answer(i, r) {
				t.Fatalf("%v is not answered", r.Commands)
			}
		}
		x.Done(kept)
	}
	usual := answers("$5\r\nvalue\r\n")
	batch(usual, false)
	if n := testing.AllocsPerRun(100, func() { batch(usual, false) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if x.offset != 123456 {
		t.Errorf("the master's offset: %d", x.offset)
	}
	// One that is told of that somebody still reads an answer leaves it alone.
	batch(answers("$5\r\nfirst\r\n"), true)
	if x.made != nil || cap(x.in) > keepAnswers {
		t.Errorf("of answers that others have %d are used again, and %d bytes were taken for the next", len(x.made), cap(x.in))
	}
	kept := requests[0].Results[0].Reply
	batch(answers("$5\r\nother\r\n"), false)
	batch(answers("*2\r\n+OK\r\n+OK\r\n"), false) // an array has memory of its own
	if kept.Text() != "first" {
		t.Errorf("an answer that was kept became %q", kept.Text())
	}
	batch(answers("$-1\r\n"), false)
	if got := requests[0].Results[0].Reply; got.Type() != resp.Null {
		t.Errorf("nil, where an array was before, has the type %v", got.Type())
	}
	// Nor is memory kept that a long answer took.
	batch(answers(fmt.Sprintf("$%d\r\n%s\r\n", 2*keepAnswers, strings.Repeat("x", 2*keepAnswers))), false)
	if cap(x.in) > keepAnswers || x.made[0].Text != "" {
		t.Errorf("%d bytes are kept, and of them %d", cap(x.in), len(x.made[0].Text))
	}
}

func TestAnExpressTakesNoAnswerThatNobodyAskedFor(t *testing.T) {
	for _, stray := range []string{"+OK\r\n", "HTTP/1.1 400 Bad Request\r\n"} {
		x := &Express{}
		n := copy(x.Room(), stray)
		if _, err := x.Got(n); !errors.Is(err, resp.ErrProtocol) {
			t.Errorf("%q: %v", stray, err)
		}
	}
}

// An Express takes no command whose answer was long, and few that are alike while nobody
// knows.
func TestAnExpressTakesNoLongAnswers(t *testing.T) {
	x := &Express{answers: config.Config{}.WithDefaults().Answers}
	for _, c := range []struct {
		words  command.Command
		key    uint64
		unseen bool // the third one of a batch is taken
	}{
		{command.Command{"get", "k"}, command.ByKey.Key(command.Command{"", "k"}), false},
		{command.Command{"HGET", "h", "f"}, command.ByField.Key(command.Command{"", "h", "f"}), false},
		{command.Command{"HMGET", "h", "f"}, command.ByHash.Key(command.Command{"", "h"}), false},
		{command.Command{"MGET", "m"}, command.ByKey.Key(command.Command{"", "m"}), false},
		{command.Command{"STRLEN", "k"}, command.ByKey.Key(command.Command{"", "k"}), true},
	} {
		third := func() (taken bool) {
			for range 3 {
				_, taken = x.foresee(c.words)
			}
			return taken
		}
		known := &x.answers.Lengths
		known[c.key>>1%uint64(len(known))].Store(0)
		x.met.Begin()
		if taken := third(); taken != c.unseen {
			t.Errorf("%q, unseen: the third is taken: %v", c.words, taken)
		}
		for _, length := range []int64{meter.MaxAnswer, meter.TogetherAnswers/3 + 1, meter.LargeAnswer} {
			known.Learn(c.key, length)
			x.met.Begin()
			if taken, want := third(), c.unseen || length <= meter.LargeAnswer; taken != want {
				t.Errorf("%q of %d bytes is taken: %v", c.words, length, taken)
			}
		}
	}
}

// A batch that went to one master is not answered by leave of the next one.
func TestALaneIsAnsweredByTheLeaseOfItsOwnSession(t *testing.T) {
	const role = "*3\r\n$6\r\nmaster\r\n:100\r\n*2\r\n*3\r\n$1\r\na\r\n$1\r\n1\r\n$3\r\n100\r\n*3\r\n$1\r\nb\r\n$1\r\n1\r\n$3\r\n100\r\n"
	for name, own := range map[string]bool{"its own": true, "another one's": false} {
		x, now := unconnected(t), time.Now()
		x.count, x.sentAsks, x.began, x.heard = 1, make([]expressAsk, 1), now, x.w.Lease().Heard.Load()
		if !own {
			x.session = commit.NewSession(x.w, "m")
		}
		n := copy(x.Room(), "$1\r\nv\r\n"+role)
		if whole, err := x.Got(n); !whole || err != nil {
			t.Fatal(whole, err)
		}
		if got := x.Land(now); got != own {
			t.Errorf("%s: answered is %v", name, got)
		}
	}
}

func TestWhatAnExpressCannotBringIsTooLong(t *testing.T) {
	for name, reply := range map[string]string{
		"a string":  "$2000000\r\n" + strings.Repeat("x", 2_000_000) + "\r\n",
		"an array":  "*20000\r\n" + strings.Repeat("$1000\r\n"+strings.Repeat("x", 1000)+"\r\n", 20_000),
		"no end":    "$2000000\r\n",
		"all right": "*1000\r\n" + strings.Repeat("$1000\r\n"+strings.Repeat("x", 1000)+"\r\n", 1000) + "*0\r\n",
	} {
		x := &Express{count: 1}
		whole, err := false, error(nil)
		for s := reply; len(s) > 0 && err == nil; {
			n := copy(x.Room(), s)
			s = s[n:]
			whole, err = x.Got(n)
		}
		if name == "all right" && (!whole || err != nil) || name != "all right" && name != "no end" && !errors.Is(err, ErrTooLong) || name == "no end" && (whole || err != nil) {
			t.Errorf("%s: %v, %v", name, whole, err)
		}
	}
}
