package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// zombie reports whether a process has ended and only waits to be reaped.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(b), ") Z ")
}

// powerLoss kills the supervisor and every node at once.
func (s *instance) powerLoss() {
	s.t.Helper()
	if pid := s.status().Supervisor; pid != 0 {
		kill(s.t, pid)
	}
	st := s.status() // this includes what it started a moment ago, which loses power, too
	for _, n := range st.Nodes {
		if n.PID != 0 {
			syscall.Kill(-n.PID, syscall.SIGKILL)
		}
	}
	s.await("the end of everything", 10*time.Second, func() bool {
		if s.status().Supervisor != 0 {
			return false
		}
		for _, n := range st.Nodes {
			if n.PID != 0 && syscall.Kill(n.PID, 0) == nil && !zombie(n.PID) {
				return false
			}
		}
		return true
	})
}

func TestEverythingKilledAtOnceComesBackWithTheSameDataAndMaster(t *testing.T) {
	beside(t, oneStack)
	s, st := runningInstance(t, minimal(t))
	// The master is not the first one, so that the record of it matters.
	s.must("kill", "redis-1")
	s.await("another master", 20*time.Second, func() bool { m := s.master(); return m != "" && m != "redis-1" })
	s.awaitHealthy()
	for round := range 3 {
		value := strconv.Itoa(round)
		expect(t, st.Entry+"/set?key=round&value="+value, 200, "OK. We have set round to be "+value)
		master := s.master()
		s.powerLoss()
		stop := make(chan struct{})
		second := make(chan string, 1)
		go func() { second <- s.watchMasters(stop) }()
		s.must("up", "-d")
		s.awaitHealthy()
		if got := s.master(); got != master {
			t.Errorf("round %d: the master is %s and was %s", round, got, master)
		}
		close(stop)
		if saw := <-second; saw != "" {
			t.Errorf("round %d: two masters at one moment: %s", round, saw)
		}
		expect(t, st.Entry+"/get?key=round", 200, value)
	}
}

// watchMasters looks for two masters at the same time until stop is closed.
func (s *instance) watchMasters(stop <-chan struct{}) (saw string) {
	for {
		select {
		case <-stop:
			return saw
		case <-time.After(20 * time.Millisecond):
		}
		var masters []string
		for _, n := range s.status().Nodes {
			if n.Role == "master" {
				masters = append(masters, n.Name)
			}
		}
		if len(masters) > 1 {
			saw = strings.Join(masters, ", ")
		}
	}
}

func TestPowerLostInTheMidstOfAFailoverLosesNoAcknowledgedWrite(t *testing.T) {
	beside(t, oneStack)
	s, st := runningInstance(t, minimal(t))
	for round := range 4 {
		l := startLoad(t, st.Entry, 200)
		time.Sleep(500 * time.Millisecond)
		kill(t, s.node(s.master()).PID)
		time.Sleep(time.Duration(400+rand.IntN(1600)) * time.Millisecond)
		l.end()
		s.powerLoss()
		s.must("up", "-d")
		s.awaitHealthy()
		t.Logf("round %d: the master is %s", round, s.master())
		l.finish(t) // this reads every key back
	}
}
