package supervise

import (
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

// ofSentinels is a supervisor of the Sentinels of a real cluster, and nothing
// else; nobody attends to them.
func ofSentinels(t *testing.T, c *redistest.Cluster) *Supervisor {
	t.Helper()
	s, _ := oneNode(t, "true")
	s.admins, s.hastened = map[string]*redis.Admin{}, map[string]int{}
	s.cfg.Stack.Redis.DownAfter = 500 * time.Millisecond
	for i, sentinel := range c.Sentinels {
		name := "sentinel-" + strconv.Itoa(i+1)
		s.nodes[name] = newNode(s, plan.Process{Node: name, Kind: plan.Sentinel, Address: sentinel.Addr})
		s.admins[name] = redis.NewAdmin(sentinel.Addr, "", "")
		t.Cleanup(s.admins[name].Close)
	}
	return s
}

// period is the period at which a Sentinel asks for INFO.
func period(s *redistest.Server) string {
	words := strings.Fields(s.Do("SENTINEL", "DEBUG"))
	if i := slices.Index(words, "INFO-PERIOD"); i >= 0 && i+1 < len(words) {
		return words[i+1]
	}
	return strings.Join(words, " ")
}

func TestAfterADeathTheSentinelsAskAtOnceAndThenAsBefore(t *testing.T) {
	cluster := redistest.Start(t, 1, 3)
	s := ofSentinels(t, cluster)
	asked := func() int {
		_, rest, _ := strings.Cut(cluster.Nodes[1].Do("INFO", "commandstats"), "cmdstat_info:calls=")
		n, _, _ := strings.Cut(rest, ",")
		calls, _ := strconv.Atoi(n)
		return calls
	}
	for _, sentinel := range cluster.Sentinels {
		// As seldom as they do by themselves, so that the questions are ours.
		sentinel.Do("SENTINEL", "DEBUG", "INFO-PERIOD", "60000")
	}
	before := asked()
	s.askNow()
	s.tasks.Wait()
	if n := asked() - before - 1; n < len(cluster.Sentinels) { // our own is one of them
		t.Errorf("%d Sentinels asked %d times", len(cluster.Sentinels), n)
	}
	for _, sentinel := range cluster.Sentinels {
		if got := period(sentinel); got != "700" {
			t.Errorf("the period is then %s", got)
		}
	}
}

// Where the period could not be set back the next probe does it: the Sentinel
// counts as new.
func TestASentinelThatHangsMeanwhileGetsItsPeriodLater(t *testing.T) {
	cluster := redistest.Start(t, 1, 1)
	s := ofSentinels(t, cluster)
	s.hastened["sentinel-1"] = 7
	s.admins["sentinel-1"].View(t.Context(), "mymaster") // connects
	cluster.Sentinels[0].Signal(syscall.SIGSTOP)
	defer cluster.Sentinels[0].Signal(syscall.SIGCONT)
	began := time.Now()
	s.askNow()
	s.tasks.Wait()
	if _, there := s.hastened["sentinel-1"]; there {
		t.Error("it counts as one that has its periods")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it was waited for %v", took)
	}
}

func TestASupervisorThatEndsLeavesThePeriodAsItWas(t *testing.T) {
	cluster := redistest.Start(t, 1, 1)
	s := ofSentinels(t, cluster)
	s.askNow()
	redistest.Eventually(t, oneTick, "the period is changed", func() bool { return period(cluster.Sentinels[0]) == "1" })
	s.halt()
	s.tasks.Wait()
	if got := period(cluster.Sentinels[0]); got != "700" {
		t.Errorf("the period is then %s", got)
	}
}
