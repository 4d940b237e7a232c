package redis

import "testing"

func TestWorkIsWhatApplicationsHaveDone(t *testing.T) {
	const text = "# Commandstats\r\n" +
		"cmdstat_ping:calls=100,usec=1,usec_per_call=0.01,rejected_calls=0,failed_calls=0\r\n" +
		"cmdstat_client|setname:calls=3,usec=1\r\ncmdstat_config|rewrite:calls=4,usec=1\r\n" +
		"cmdstat_set:calls=7,usec=1\r\ncmdstat_evalsha:calls=20,usec=1\r\ncmdstat_xinfo|stream:calls=1,usec=1\r\n"
	if n, err := parseWork(text); n != 28 || err != nil {
		t.Errorf("%d, %v; want 28", n, err)
	}
	if _, err := parseWork("cmdstat_set:calls=x,usec=1\r\n"); err == nil {
		t.Error("a number that is none")
	}
}
