package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

// Everything at once: requests of every kind, with and without keys, through
// two clients, while a node at a time is stopped. HOLDFAST_STRESS says for how
// long (such as 5m).
func TestNothingIsLostOrDoneTwiceUnderFaults(t *testing.T) {
	t.Parallel()
	span, err := time.ParseDuration(os.Getenv("HOLDFAST_STRESS"))
	if err != nil {
		span = 12 * time.Second
	}
	cluster := redistest.Start(t, 2, 3)
	clients := []*Client{open(t, cluster, nil), open(t, cluster, nil)}
	ctx, stop := context.WithTimeout(t.Context(), span)
	defer stop()
	var wg sync.WaitGroup
	var okCount, unknown, notExec, other, reads atomic.Int64
	// per-counter state: caller i owns counter ci; counter ack monotonic
	own := NewScript("local n = redis.call('INCR', KEYS[1]) redis.call('SET', KEYS[2], ARGV[1]) return {n, ARGV[1]}")
	var bad atomic.Int64
	fail := func(f string, a ...any) {
		if bad.Add(1) < 20 {
			t.Errorf(time.Now().Format("05.000 ")+f, a...)
		}
	}
	const callers = 48
	type state struct{ acked, maybe int64 }
	final := make([]state, callers)
	// shared counter: all results unique
	var shared sync.Map
	var floor [4]atomic.Int64 // the highest acknowledged of a shared counter
	for i := range callers {
		wg.Go(func() {
			s := &final[i]
			key, mirror := fmt.Sprintf("c%d", i), fmt.Sprintf("m%d", i)
			for n := 0; ctx.Err() == nil; n++ {
				client := clients[rand.IntN(2)]
				tag := fmt.Sprintf("t%d.%d", i, n)
				idem := ""
				if rand.IntN(2) == 0 {
					idem = tag
				}
				r := &Request{IdempotencyKey: idem}
				kind := rand.IntN(7)
				sh := rand.IntN(4)
				shk := fmt.Sprintf("s%d", sh)
				before := floor[sh].Load()
				var take func() (val int64, tagBack string, shared int64)
				num := func(k int) int64 { return r.Results[k].Reply.Int() }
				switch kind {
				case 0:
					r.Commands = []Command{{"INCR", key}, {"ECHO", tag}}
					take = func() (int64, string, int64) { return num(0), r.Results[1].Reply.Text(), 0 }
				case 1:
					r.Commands, r.Atomic = []Command{{"INCR", key}, {"ECHO", tag}, {"INCR", shk}}, true
					take = func() (int64, string, int64) { return num(0), r.Results[1].Reply.Text(), num(2) }
				case 2:
					r.Script, r.Keys, r.Args = own, []string{key, mirror}, []string{tag}
					take = func() (int64, string, int64) {
						a := r.Results[0].Reply
						x, y := a.At(0), a.At(1)
						return x.Int(), y.Text(), 0
					}
				case 3:
					r.Commands = []Command{{"EVAL", "return {redis.call('INCR',KEYS[1]),ARGV[1],redis.call('INCR',KEYS[2])}", "2", key, shk, tag}}
					take = func() (int64, string, int64) {
						a := r.Results[0].Reply
						if a.Len() != 3 {
							fail("%s: eval got %d", tag, a.Len())
							return 0, "", 0
						}
						x, y, z := a.At(0), a.At(1), a.At(2)
						return x.Int(), y.Text(), z.Int()
					}
				case 4:
					r.Commands = []Command{{"INCR", key}, {"INCR", shk}, {"GET", key}, {"ECHO", tag}}
					take = func() (int64, string, int64) {
						if r.Results[2].Err == nil && r.Results[0].Err == nil && r.Results[2].Reply.Text() != strconv.FormatInt(num(0), 10) {
							fail("%s: pipeline INCR %d GET %s", tag, num(0), r.Results[2].Reply.Text())
						}
						return num(0), r.Results[3].Reply.Text(), num(1)
					}
				case 5, 6:
					r.IdempotencyKey = ""
					r.Commands = []Command{{"GET", key}, {"GET", shk}, {"ECHO", tag}}
				}
				rctx, cancel := context.WithCancel(context.Background())
				if rand.IntN(50) == 0 {
					time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, cancel)
				}
				err := client.Do(rctx, r)
				cancel()
				if kind >= 5 {
					if err != nil {
						if KindOf(err) == Unknown {
							fail("%s: an unknown read %v", tag, err)
						}
						continue
					}
					reads.Add(1)
					v, _ := strconv.ParseInt(r.Results[0].Reply.Text(), 10, 64)
					w, _ := strconv.ParseInt(r.Results[1].Reply.Text(), 10, 64)
					if r.Results[2].Reply.Text() != tag {
						fail("%s: read got another's answer %q", tag, r.Results[2].Reply.Text())
					}
					if v < s.acked || v > s.acked+s.maybe {
						fail("%s: read %s=%d, acked %d maybe %d", tag, key, v, s.acked, s.maybe)
					}
					if v > s.acked {
						s.maybe -= v - s.acked
						s.acked = v
					}
					if w < before {
						fail("%s: read %s=%d < acknowledged %d", tag, shk, w, before)
					}
					raise(&floor[sh], w)
					continue
				}
				part := false
				if err == nil {
					for _, x := range r.Results {
						if x.Err != nil {
							part = true
						}
					}
				}
				switch {
				case err == nil && part:
					// some happened
					other.Add(1)
					if r.Results[0].Err != nil && KindOf(r.Results[0].Err) == NotExecuted {
						continue
					}
					if r.Results[0].Err != nil {
						s.maybe++
						continue
					}
					if v := num(0); kind == 0 || kind == 1 || kind == 4 {
						if v <= s.acked || v > s.acked+s.maybe+1 {
							fail("%s: part %s=%d acked %d maybe %d", tag, key, v, s.acked, s.maybe)
						}
						s.maybe -= v - s.acked - 1
						s.acked = v
					}
				case err == nil:
					okCount.Add(1)
					v, back, shv := take()
					if back != tag {
						fail("%s (kind %d): another's answer %q", tag, kind, back)
					}
					if v <= s.acked || v > s.acked+s.maybe+1 {
						fail("%s (kind %d, key %q): %s=%d, acked %d maybe %d", tag, kind, idem, key, v, s.acked, s.maybe)
					}
					s.maybe -= v - s.acked - 1
					s.acked = v
					if shv > 0 {
						if who, twice := shared.LoadOrStore(fmt.Sprint(shk, ".", shv), tag); twice {
							fail("%s: %s=%d was given to %v", tag, shk, shv, who)
						}
						if shv <= before {
							fail("%s: %s=%d <= acknowledged %d", tag, shk, shv, before)
						}
						raise(&floor[sh], shv)
					}
				case KindOf(err) == Unknown:
					unknown.Add(1)
					s.maybe++
				case KindOf(err) == NotExecuted:
					notExec.Add(1)
				default:
					fail("%s: %v", tag, err)
				}
				time.Sleep(time.Duration(rand.IntN(6)) * time.Millisecond)
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(1500*time.Millisecond + time.Duration(rand.IntN(2000))*time.Millisecond)
			victim := cluster.Node(clients[0].Master())
			what := "master"
			if victim == nil || rand.IntN(3) == 0 {
				victim, what = cluster.Nodes[rand.IntN(3)], "any node"
			}
			pause := time.Duration(1300+rand.IntN(500)) * time.Millisecond
			t.Logf("%v stop %s %s for %v", time.Now().Format("05.000"), what, victim.Addr, pause)
			victim.Signal(syscall.SIGSTOP)
			time.Sleep(pause)
			victim.Signal(syscall.SIGCONT)
			// whole again: one master, two replicas
			end := time.Now().Add(12 * time.Second)
			for time.Now().Before(end) && clients[0].Status().Replicas < 2 {
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(600 * time.Millisecond)
		}
	})
	wg.Wait()
	for i := range callers {
		got, _, err := clients[0].Get(t.Context(), fmt.Sprintf("c%d", i))
		v, _ := strconv.ParseInt(string(got), 10, 64)
		if err != nil || v < final[i].acked || v > final[i].acked+final[i].maybe {
			t.Errorf("c%d: %d at the end, acked %d, maybe %d: %v", i, v, final[i].acked, final[i].maybe, err)
		}
	}
	t.Logf("ok %d unknown %d notExecuted %d partly %d reads %d bad %d", okCount.Load(), unknown.Load(), notExec.Load(), other.Load(), reads.Load(), bad.Load())
}

func raise(a *atomic.Int64, v int64) {
	for {
		old := a.Load()
		if v <= old || a.CompareAndSwap(old, v) {
			return
		}
	}
}
