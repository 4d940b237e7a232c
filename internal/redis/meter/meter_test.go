package meter

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/internal/redis/resp"
)

// pieces reads a text in pieces of any length.
type pieces struct {
	text string
	rand *rand.Rand
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	n := min(len(b), len(p.text), 1+p.rand.IntN(40))
	if p.rand.IntN(3) == 0 {
		n = min(len(b), len(p.text))
	}
	copy(b, p.text[:n])
	p.text = p.text[n:]
	return n, nil
}

// metered is what a client behind a meter reads of these replies, with L and R for the
// words that stand for what was dropped, and the shares after it.
func metered(t *testing.T, limit int64, replies string, shares []Allowance, seed uint64) (string, []Allowance, *Meter) {
	t.Helper()
	m := &Meter{Ledger: NewLedger(limit, limit), Each: Allowance{Budget: 100}, Own: Allowance{Budget: 100}, Seen: new(atomic.Int64)}
	shares = append([]Allowance(nil), shares...)
	m.Begin(shares)
	r := rand.New(rand.NewPCG(seed, 0))
	source := &pieces{text: replies, rand: r}
	out, err := io.ReadAll(readerFunc(func(p []byte) (int, error) { return m.Read(source, p[:1+r.IntN(len(p))]) }))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(out), cutWords, "")
	return strings.ReplaceAll(text, resp.CRLF, " "), shares, m
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// bulk is a string of n bytes in Redis' protocol.
func bulk(n int) string { return fmt.Sprintf("$%d\r\n%s\r\n", n, strings.Repeat("x", n)) }

// What is too long is dropped wherever it stands, and everything else is given on as it
// came, whatever pieces it comes in.
func TestAMeterDropsWhatIsTooLongAndNothingElse(t *testing.T) {
	long, short := bulk(300), bulk(70)
	for _, c := range []struct{ name, replies, want string }{
		{"short", "+OK\r\n:1\r\n$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n" + bulk(3), "+OK :1 $-1 *-1 *0 $0  $3 xxx "},
		{"a long string", "+OK\r\n" + long + ":2\r\n", "+OK -L :2 "},
		{"several", long + bulk(2) + long, "-L $2 xx -L "},
		{"inside an array", "*1\r\n" + long + ":2\r\n", "*1 -L :2 "},
		{"deep inside", "*1\r\n*1\r\n" + long + "+A\r\n", "*1 *1 -L +A "},
		{"a long array", "*3\r\n:1\r\n*2\r\n:1\r\n:2\r\n" + long + "+A\r\n", "-L +A "},
		{"of empty arrays", "*3\r\n*0\r\n*-1\r\n$-1\r\n+A\r\n", "-L +A "},
		{"a long line", "+" + strings.Repeat("y", 200) + "\r\n+A\r\n", ""},
		{"a long error", "-" + strings.Repeat("y", 200) + "\r\n+A\r\n", ""},
		{"a new reply, a new budget", short + short + short, strings.Repeat(strings.ReplaceAll(short, resp.CRLF, " "), 3)},
		{"RESP3", "%1\r\n" + bulk(1) + long + "~2\r\n:1\r\n:2\r\n_\r\n#t\r\n", "-L -L _ #t "},
	} {
		for seed := range uint64(40) {
			got, _, _ := metered(t, 1000, c.replies, nil, seed)
			if c.want == "" {
				if !strings.HasSuffix(got, "L +A ") || len(got) > 200 {
					t.Fatalf("%s: got %q", c.name, got)
				}
			} else if got != c.want {
				t.Fatalf("%s: got %q, want %q", c.name, got, c.want)
			}
		}
	}
}

// The replies to one request share a budget, and those of a transaction, whose frame is
// Redis' own, are dropped by themselves.
func TestAMeterCountsWhatBelongsTogether(t *testing.T) {
	for seed := range uint64(40) {
		got, shares, m := metered(t, 1<<30, bulk(80)+bulk(80)+"+OK\r\n"+bulk(80)+
			"*4\r\n"+bulk(80)+"*1\r\n:1\r\n+OK\r\n"+bulk(80),
			[]Allowance{{Replies: 3, Budget: 150}, {Replies: 1, Budget: 100}, {Replies: 1, Framed: true, Budget: 100}}, seed)
		x := strings.ReplaceAll(bulk(80), resp.CRLF, " ")
		if want := x + "-L +OK " + x + "*4 " + x + "*1 :1 +OK -L "; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if shares[0].cut != tooLong || shares[1].cut != uncut || shares[2].cut != tooLong || m.cuts != 2 {
			t.Errorf("the shares are %+v, with %d cuts", shares, m.cuts)
		}
	}
}

// Each answer of a call that carries out several requests has a budget of its own.
func TestAMeterCountsEachRequestOfACallByItself(t *testing.T) {
	got, shares, _ := metered(t, 1<<20, "*4\r\n"+bulk(40_000)+bulk(70_000)+bulk(40_000)+bulk(1),
		[]Allowance{{Replies: 1, Framed: true, Each: true, Budget: 60_000, Always: true}}, 1)
	if heads := strings.ReplaceAll(got, "x", ""); heads != "*4 $40000  -L $40000  $1  " {
		t.Errorf("got %q", heads)
	}
	if shares[0].Charged < 80_000 || shares[0].Charged > 120_000 {
		t.Errorf("charged is %d", shares[0].Charged)
	}
}

// What finds no room is dropped, says how much it needs, and is given where it took the
// room before; what writes may have answered is given as long as there is any.
func TestAMeterTakesRoomForLongAnswers(t *testing.T) {
	const long = 40_000
	read := Allowance{Replies: 1, Budget: 1 << 20}
	for _, c := range []struct {
		name   string
		share  Allowance
		before int64 // taken by others
		given  bool
		held   int64 // after it
	}{
		{"room", read, 0, true, long},
		{"none", read, 70_000, false, 70_000},
		{"taken before", Allowance{Replies: 1, Budget: 1 << 20, Room: long}, 70_000 + long, true, 70_000 + long},
		{"of a write", Allowance{Replies: 1, Budget: 1 << 20, Always: true}, 70_000, true, 70_000 + long},
		{"of a write, and none", Allowance{Replies: 1, Budget: 1 << 20, Always: true}, 190_000, false, 190_000},
	} {
		m := &Meter{Ledger: NewLedger(100_000, 100_000), Seen: new(atomic.Int64)}
		m.Ledger.held = c.before
		shares := []Allowance{c.share}
		m.Begin(shares)
		source := strings.NewReader(bulk(long))
		out, err := io.ReadAll(readerFunc(func(p []byte) (int, error) { return m.Read(source, p) }))
		if err != nil {
			t.Fatal(err)
		}
		if given := strings.HasPrefix(string(out), "$"); given != c.given || m.Ledger.held != c.held && given {
			t.Errorf("%s: given is %v, and %d bytes are held", c.name, given, m.Ledger.held)
		}
		if !c.given && (shares[0].cut != noRoom || shares[0].Need != long) {
			t.Errorf("%s: the share is %+v", c.name, shares[0])
		}
	}
}

func BenchmarkMeter(b *testing.B) {
	replies := strings.Repeat(bulk(9)+":1\r\n", 32) + "*5\r\n$6\r\nmaster\r\n:12345678\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n$8\r\n12345678\r\n:1\r\n:1\r\n"
	for _, c := range []struct {
		name string
		with bool
	}{{"without", false}, {"with", true}} {
		b.Run(c.name, func(b *testing.B) {
			m := &Meter{Ledger: NewLedger(1<<30, 1<<30), Each: Allowance{Budget: 1 << 20}, Own: Allowance{Budget: 1 << 20}, Seen: new(atomic.Int64)}
			source := strings.NewReader(replies)
			room := make([]byte, 64<<10)
			for range b.N {
				source.Reset(replies)
				if c.with {
					_, _ = m.Read(source, room)
				} else {
					_, _ = source.Read(room)
				}
			}
		})
	}
}
