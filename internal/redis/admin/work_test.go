package admin

import (
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

func TestWorkIsWhatApplicationsHaveDone(t *testing.T) {
	const text = "# Commandstats\r\n" +
		"cmdstat_ping:calls=100,usec=1,usec_per_call=0.01,rejected_calls=0,failed_calls=0\r\n" +
		"cmdstat_time:calls=5,usec=1\r\ncmdstat_client|setname:calls=3,usec=1\r\ncmdstat_config|rewrite:calls=4,usec=1\r\n" +
		"cmdstat_set:calls=7,usec=1\r\ncmdstat_evalsha:calls=20,usec=1\r\ncmdstat_xinfo|stream:calls=1,usec=1\r\n"
	if n, err := parseWork(text); n != 28 || err != nil {
		t.Errorf("%d, %v; want 28", n, err)
	}
	if tolls, err := parseTolls(text); err != nil || tolls["ping"] != (Toll{100, time.Microsecond}) || tolls["client|setname"] != (Toll{3, time.Microsecond}) {
		t.Errorf("%v, %v", tolls, err)
	}
	for _, bad := range []string{"cmdstat_set:calls=x,usec=1\r\n", "cmdstat_set:calls=1,usec=x\r\n", "cmdstat_set:calls=1\r\n"} {
		if _, err := parseTolls(bad); err == nil {
			t.Errorf("%q", bad)
		}
	}
	if _, err := parseWork("cmdstat_set:calls=x,usec=1\r\n"); err == nil {
		t.Error("a number that is none")
	}
}

func TestAServerTellsWhatCommandsCostIt(t *testing.T) {
	server := redistest.Start(t, 0, 0).Nodes[0]
	a := New(Way{}, server.Addr, "", "")
	defer a.Close()
	began := time.Now()
	if name, took, err := a.Slowest(t.Context(), began); name != "" || err != nil {
		t.Errorf("nothing was slow: %s, %v, %v", name, took, err)
	}
	server.Do("SETRANGE", "bits", "33554432", "x")
	server.Do("EVAL", "for i = 1, 30000000 do end return 1", "0")
	tolls, err := a.Tolls(t.Context())
	if err != nil || tolls["eval"].Calls != 1 || tolls["eval"].Took < 10*time.Millisecond {
		t.Errorf("the script: %+v, %v", tolls["eval"], err)
	}
	if name, took, err := a.Slowest(t.Context(), began); err != nil || took < 10*time.Millisecond || name == "" {
		t.Errorf("the slowest is %s, %v, %v", name, took, err)
	}
	if name, _, err := a.Slowest(t.Context(), time.Now().Add(time.Minute)); name != "" || err != nil {
		t.Errorf("before its time: %s, %v", name, err)
	}
	f, err := a.Figures(t.Context())
	if err != nil || f.Used < 32<<20 || f.MaxMemory != 0 || f.Sent == 0 {
		t.Errorf("%+v, %v", f, err)
	}
}
