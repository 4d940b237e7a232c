package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
)

const ms = time.Millisecond

// soon is how long a test waits for what takes some milliseconds, also on a busy machine.
const soon = 20 * time.Second

// supervisorOfSentinels returns a supervisor of only the Sentinels of a real cluster. It does not
// look after them yet.
func supervisorOfSentinels(t *testing.T, c *redistest.Cluster) *Supervisor {
	t.Helper()
	s, _ := oneNode(t, "true")
	s.admins, s.sentinelPeriods = map[string]*redis.Admin{}, map[string]*sentinelPeriods{}
	s.plan.Name = redistest.MasterName
	s.cfg.Stack.Redis.DownAfter, s.cfg.Stack.Redis.Sentinels = 500*ms, len(c.Sentinels)
	for i, sentinel := range c.Sentinels {
		name := "sentinel-" + strconv.Itoa(i+1)
		s.nodes[name] = newNode(s, plan.Process{Node: name, Kind: plan.Sentinel, Address: sentinel.Addr})
		s.admins[name], s.sentinelPeriods[name] = redis.NewAdmin(redis.Way{}, sentinel.Addr, "", ""), new(sentinelPeriods)
		t.Cleanup(s.admins[name].Close)
	}
	return s
}

// period returns the period at which a Sentinel asks for INFO, in milliseconds.
func period(s *redistest.Server) string {
	words := strings.Fields(s.Do("SENTINEL", "DEBUG"))
	if i := slices.Index(words, "INFO-PERIOD"); i >= 0 && i+1 < len(words) {
		return words[i+1]
	}
	return strings.Join(words, " ")
}

func awaitPeriod(t *testing.T, s *redistest.Server, want string) {
	t.Helper()
	redistest.Eventually(t, soon, "the period is "+want, func() bool { return period(s) == want })
}

func TestAfterADeathTheSentinelsAskHalfASecondBeforeTheVerdict(t *testing.T) {
	now := []periodStep{{60 * ms, 150 * ms}, {time.Second, time.Second}}
	for downAfter, want := range map[time.Duration][]periodStep{
		100 * ms:         now,
		500 * ms:         now,
		700 * ms:         {{1200 * ms, 200 * ms}, now[0], now[1]},
		1500 * ms:        {{2 * time.Second, time.Second}, now[0], now[1]},
		1501 * ms:        nil,
		30 * time.Second: nil,
	} {
		if got := afterDeath(downAfter); !slices.Equal(got, want) {
			t.Errorf("down-after %v: %v, want %v", downAfter, got, want)
		}
	}
}

func TestAfterADeathTheSentinelsAskAtOnceAndThenAsBefore(t *testing.T) {
	cluster := redistest.Start(t, 1, 3)
	s := supervisorOfSentinels(t, cluster)
	asked := func() int {
		_, rest, _ := strings.Cut(cluster.Nodes[1].Do("INFO", "commandstats"), "cmdstat_info:calls=")
		n, _, _ := strings.Cut(rest, ",")
		calls, _ := strconv.Atoi(n)
		return calls
	}
	for _, sentinel := range cluster.Sentinels {
		// The Sentinels ask as rarely as they do by themselves, so that the counted questions are due
		// to speedUpFailover.
		sentinel.Do("SENTINEL", "DEBUG", "INFO-PERIOD", "60000")
	}
	before, looks := asked(), 0
	s.applyPeriodSteps([]periodStep{{askPeriod, time.Hour}})
	redistest.Eventually(t, soon, "every Sentinel has asked", func() bool {
		looks++ // each look counts as a question, too
		return asked()-before-looks >= len(cluster.Sentinels)
	})
	s.halt() // the supervisor ends in between, while the Sentinels stay
	s.tasks.Wait()
	for _, sentinel := range cluster.Sentinels {
		if got := period(sentinel); got != "700" {
			t.Errorf("the period is then %s", got)
		}
	}
}

func TestTheSentinelsHaveEachPeriodForItsTime(t *testing.T) {
	cluster := redistest.Start(t, 1, 1)
	s := supervisorOfSentinels(t, cluster)
	for _, c := range []struct {
		steps []periodStep
		want  string
	}{
		{[]periodStep{{1200 * ms, time.Hour}, {askPeriod, ms}, {holdPeriod, ms}}, "1200"},
		{[]periodStep{{1200 * ms, ms}, {askPeriod, time.Hour}, {holdPeriod, ms}}, "60"},
		{[]periodStep{{1200 * ms, ms}, {askPeriod, ms}, {holdPeriod, time.Hour}}, "1000"},
		{[]periodStep{{1200 * ms, ms}, {askPeriod, ms}, {holdPeriod, ms}}, "700"},
	} {
		s.applyPeriodSteps(c.steps)
		awaitPeriod(t, cluster.Sentinels[0], c.want)
		s.halt()
		s.tasks.Wait()
		if got := period(cluster.Sentinels[0]); got != "700" {
			t.Errorf("the supervisor has ended, and the period is %s", got)
		}
		s.ctx, s.halt = context.WithCancel(t.Context()) // the next supervisor starts
	}
}

// A replica dies, and the master shortly after. The time for the replica's death ends before
// that for the master's.
func TestOneDeathDoesNotCutAnothersTimeShort(t *testing.T) {
	cluster := redistest.Start(t, 1, 1)
	sentinel := cluster.Sentinels[0]
	s := supervisorOfSentinels(t, cluster)
	s.applyPeriodSteps([]periodStep{{askPeriod, time.Hour}})
	awaitPeriod(t, sentinel, "60")
	for range 2 {
		s.applyStepsTo("sentinel-1", []periodStep{{holdPeriod, ms}, {askPeriod, ms}, {holdPeriod, ms}})
		if got := period(sentinel); got != "60" {
			t.Errorf("the first one is over, and the period is %s", got)
		}
	}
	// A probe does not cut it short either.
	if err := s.probeSentinel(t.Context(), *s.nodes["sentinel-1"].spec()); err != nil || period(sentinel) != "60" {
		t.Errorf("it was probed (%v), and the period is %s", err, period(sentinel))
	}
	s.halt()
	s.tasks.Wait()
	if got := period(sentinel); got != "700" {
		t.Errorf("the period is then %s", got)
	}
}

// If the period could not be set back, the next probe does it, because the Sentinel counts as
// new.
func TestASentinelThatHangsMeanwhileGetsItsPeriodLater(t *testing.T) {
	cluster := redistest.Start(t, 1, 1)
	s := supervisorOfSentinels(t, cluster)
	p := s.sentinelPeriods["sentinel-1"]
	p.setFor = 7
	s.admins["sentinel-1"].View(t.Context(), "mymaster") // this connects
	cluster.Sentinels[0].Signal(syscall.SIGSTOP)
	defer cluster.Sentinels[0].Signal(syscall.SIGCONT)
	s.speedUpFailover()
	s.tasks.Wait()
	if p.setFor != 0 {
		t.Error("it counts as one that has its periods")
	}
	cluster.Sentinels[0].Signal(syscall.SIGCONT)
	redistest.Eventually(t, soon, "a probe", func() bool { return s.probeSentinel(t.Context(), *s.nodes["sentinel-1"].spec()) == nil })
	if got := period(cluster.Sentinels[0]); got != "700" {
		t.Errorf("the period is then %s", got)
	}
}

// A probe was under way when the Sentinel stopped hearing. Its end must not make the Sentinel
// count as told.
func TestWhatASentinelWasToldLastCounts(t *testing.T) {
	var p sentinelPeriods
	var log []string
	deaf := errors.New("nobody answers")
	hears := func(d time.Duration) error { log = append(log, fmt.Sprint(d)); return nil }
	begun, goOn, done := make(chan bool), make(chan bool), make(chan error)
	go func() {
		done <- p.setForNew(7, func(d time.Duration) error {
			close(begun)
			<-goOn
			return hears(d)
		})
	}()
	<-begun
	one, two := new(periodRequest), new(periodRequest)
	failed := make(chan error)
	go func() { failed <- p.change(one, askPeriod, func(time.Duration) error { return deaf }) }()
	close(goOn)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, deaf) || p.setFor != 0 {
		t.Errorf("it did not hear the last one (%v), and counts as %d", err, p.setFor)
	}
	for _, told := range []error{
		p.setForNew(7, hears),
		p.setForNew(7, hears), // the Sentinel has been told
		p.change(two, holdPeriod, hears),
		p.change(two, askPeriod, hears),
		p.change(one, 0, hears),
		p.change(two, holdPeriod, hears),
		p.setForNew(8, hears), // a new process
		p.change(two, 0, hears),
	} {
		if told != nil {
			t.Error(told)
		}
	}
	if got := strings.Join(log, " "); got != "700ms 60ms 60ms 60ms 60ms 1s 1s 700ms" || p.setFor != 8 {
		t.Errorf("it was told %s, and counts as %d", got, p.setFor)
	}
}
