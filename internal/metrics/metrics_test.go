package metrics

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/internal/supervise"
)

func TestTheLastBackupIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	told := func(text string) map[string]float64 {
		t.Helper()
		if text != "" {
			if err := os.WriteFile(filepath.Join(dir, supervise.BackupFile), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		g := &gathering{}
		addBackup(g, dir)
		registry := prometheus.NewRegistry()
		registry.MustRegister(prometheus.CollectorFunc(func(out chan<- prometheus.Metric) {
			for _, m := range g.metrics {
				out <- m
			}
		}))
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]float64{}
		for _, f := range families {
			values[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		return values
	}
	if got := told(""); len(got) != 5 || got[backupLast.name] != 0 || got[backupFailed.name] != 0 {
		t.Errorf("none: %v", got)
	}
	got := told(`{"last":{"begun":"2026-03-04T05:00:00Z","seconds":90,"bytes":7},"failure":{"at":"2026-03-05T05:00:00Z","error":"no room"},"next":"2026-03-06T05:00:00Z"}`)
	begun := float64(time.Date(2026, 3, 4, 5, 0, 0, 0, time.UTC).Unix())
	for name, want := range map[string]float64{
		backupLast.name: begun + 90, backupTook.name: 90, backupBytes.name: 7, backupFailed.name: 1, backupNext.name: begun + 2*86400,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if got := told("{"); len(got) != 0 {
		t.Errorf("a damaged file: %v", got)
	}
}

func TestAWebNodesMetricsAreRead(t *testing.T) {
	t.Parallel()
	web, err := parseWeb(strings.NewReader(`# HELP holdfast_ready …
holdfast_ready 1
holdfast_redis_master_info{address="127.0.0.1:31384"} 1
holdfast_redis_replicas 2
holdfast_redis_in_sync_replicas 1
holdfast_redis_batch_operations_count 12
holdfast_held_requests 3
`))
	if want := (Web{Ready: true, Master: "127.0.0.1:31384", Replicas: 2, InSync: 1, Wrote: true, Held: 3}); web != want || err != nil {
		t.Errorf("got %+v, %v", web, err)
	}
}
