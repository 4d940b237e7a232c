package history

import (
	"syscall"
	"testing"
	"time"
)

// large is a drill of 30 s: 30,000 operations on 20 registers, 8 counters and 8 sets by 64 clients.
// Every operation under way at a failover is unknown.
func large(seed uint64) History {
	s := newSimulation(seed, noBug)
	s.rate, s.length, s.clients = 1000, 30*time.Second, 64
	s.registers, s.counters, s.sets = 20, 8, 8
	s.failovers, s.unknown, s.lost = []time.Duration{10 * time.Second, 20 * time.Second}, 100, 60
	return s.run()
}

// hot is the same drill on a single register, which porcupine alone cannot judge.
func hot(seed uint64) History {
	s := newSimulation(seed, noBug)
	s.rate, s.length, s.clients = 1000, 30*time.Second, 64
	s.registers, s.counters, s.sets = 1, 1, 1
	s.failovers, s.unknown, s.lost = []time.Duration{10 * time.Second, 20 * time.Second}, 100, 60
	return s.run()
}

// tooLong is generous, for the race detector's sake. A search that goes wrong exceeds any such
// limit. The benchmark measures the time itself.
const tooLong = 30 * time.Second

// processorTime returns the processor time of this process, so that other programs on the machine
// do not count.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func TestThirtyThousandOperationsAreJudgedInTime(t *testing.T) {
	for name, h := range map[string]History{"large": large(1), "hot": hot(1)} {
		unknown := 0
		for _, op := range h.Operations {
			if op.Outcome == Unknown && op.writes() {
				unknown++
			}
		}
		began := processorTime(t)
		v := Judge(h)
		took := processorTime(t) - began
		t.Logf("%s: %d operations, %d unknown writes: %s in %v", name, len(h.Operations), unknown, v.Result, took)
		if v.Result != Holds || unknown < 50 {
			t.Errorf("%s: %s with %d unknown writes: %v", name, v.Result, unknown, v.Why)
		}
		if took > tooLong {
			t.Errorf("%s: judged in %v", name, took)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	h := large(1)
	b.ReportAllocs()
	for b.Loop() {
		if v := Judge(h); v.Result != Holds {
			b.Fatal(v.Why)
		}
	}
}
