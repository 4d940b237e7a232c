package containers

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/load"
)

// pressure is a load on the entries of a stack. Every answer is recorded and judged.
type pressure struct {
	t     *testing.T
	cfg   load.Config
	load  *load.Load
	fault history.Fault
	end   context.CancelFunc
	done  chan struct{}
}

// begin starts a load, and returns when it has been running for a while.
func begin(t *testing.T, name string, entries []string) *pressure {
	t.Helper()
	const rate, clients, keys = 100, 20, 6
	began := time.Now()
	cfg := load.Config{
		Entries: entries, Prefix: fmt.Sprintf("%s-%d:", name, began.UnixNano()), Rate: rate, Clients: clients,
		Registers: keys, Counters: keys, Sets: keys, Seed: 1, Began: began, Timeout: 30 * time.Second,
	}
	l, err := load.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	p := &pressure{t: t, cfg: cfg, load: l, end: end, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		l.Run(ctx)
	}()
	t.Cleanup(func() {
		end()
		<-p.done
	})
	time.Sleep(2 * time.Second) // of answers without any fault, for comparison
	p.fault = history.Fault{
		Name: name, Began: time.Since(began), Moments: []time.Duration{time.Since(began)}, Evidence: "docker has done it",
		Promise: history.Promise{Failed: history.Any, Unknown: history.Any},
	}
	return p
}

// judge ends the load when the stack is well again, and judges all of it: acknowledged writes are
// there, and no answer was wrong. It returns what clients noticed.
func (p *pressure) judge() history.FaultAvailability {
	p.t.Helper()
	p.fault.Undone, p.fault.Healthy = time.Since(p.cfg.Began), time.Since(p.cfg.Began)
	time.Sleep(2 * time.Second)
	p.end()
	<-p.done
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.load.ReadBack(ctx); err != nil {
		p.t.Errorf("%s: the keys cannot be read back: %v", p.fault.Name, err)
	}
	v := history.Judge(history.History{
		ID: p.fault.Name, Stack: "holdfast", App: "web", Began: p.cfg.Began, Seed: 1, Rate: p.cfg.Rate, Clients: p.cfg.Clients,
		LoadEnd: p.load.End(), Faults: []history.Fault{p.fault}, Operations: p.load.Operations(),
	})
	switch v.Result {
	case history.Holds:
	case history.Inconclusive: // about availability, as on a busy machine; answers are judged all the same
		p.t.Logf("%s: %s", p.fault.Name, strings.Join(v.Why, "; "))
	default:
		p.t.Errorf("%s: %s: %s", p.fault.Name, v.Result, strings.Join(v.Why, "; "))
	}
	for _, a := range v.Anomalies {
		p.t.Errorf("%s: %s of %s: %s", p.fault.Name, a.What, a.Key, a.Text)
	}
	if v.Checked.Acknowledged == 0 || v.Checked.ReadBack == 0 {
		p.t.Errorf("%s: nothing was checked: %+v", p.fault.Name, v.Checked)
	}
	_ = p.load.Remove(ctx) // the load's own keys
	f := v.Faults[0]
	p.t.Logf("%s: %d operations, %d acknowledged writes; %d failed, %d unknown; the longest wait %.2f s, without any answer %.2f s",
		p.fault.Name, v.Checked.Operations, v.Checked.Acknowledged, v.Whole.Failed, v.Whole.Unknown, f.Pause.Seconds(), f.Silence.Seconds())
	return f
}
