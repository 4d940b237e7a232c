package redis

import (
	"strings"
	"testing"

	"holdfast/internal/redis/once"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/redis/resp"
)

// An answer that is long is given once, whichever way the write with an idempotency key
// goes. It is not kept, and a repetition changes nothing.
func TestALongAnswerIsInNoRecord(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 0)
	master := cluster.Nodes[0]
	client := open(t, cluster, nil)
	long := strings.Repeat("x", once.MaxKeptBytes+1)
	do(t, client, &Request{Commands: []Command{{"RPUSH", "l", long}, {"SET", "s", long}, {"SET", "short", long[1:]}, {"SET", "n", "0"}}})
	script := NewScript("return redis.call('GETEX', 's', 'EX', '100')")
	for name, c := range map[string]struct {
		kept bool
		r    Request
	}{
		"one command":         {false, Request{Commands: commands("LMOVE l l LEFT RIGHT")}},
		"just short enough":   {true, Request{Commands: commands("GETEX short EX 100")}},
		"of a pipeline":       {false, Request{Commands: commands("GETEX s EX 100", "INCR n")}},
		"of a user's script":  {false, Request{Commands: commands("EVAL return(redis.call('GETEX','s','EX','100')) 0")}},
		"of a short one":      {true, Request{Commands: commands("EVAL return(redis.call('GETEX','short','EX','100')) 0")}},
		"of a script of ours": {false, Request{Script: script}},
		"many elements":       {false, Request{Commands: commands("EVAL local(t)={};for(i)=1,10001;do;t[i]=1;end;return(t) 0", "INCR n")}},
	} {
		if name == "many elements" {
			c.r.Commands[0][1] = "local t = {} for i = 1, 10001 do t[i] = 1 end return t"
		}
		attempt := func() (string, error) {
			r := c.r
			r.IdempotencyKey = name
			if err := client.Do(t.Context(), &r); err != nil {
				return "", err
			}
			if err := r.Results[0].Err; err != nil {
				return "", err
			}
			return word(&r.Results[0].Reply), nil
		}
		first, err := attempt()
		if err != nil || len(first) < once.MaxKeptBytes && name != "many elements" {
			t.Fatalf("%s: the first answer has %d bytes, and the error is %v", name, len(first), err)
		}
		counted := master.Do("GET", "n")
		switch again, err := attempt(); {
		case c.kept && (again != first || err != nil):
			t.Errorf("%s: the repetition gets %d bytes, and the error is %v", name, len(again), err)
		case !c.kept && (KindOf(err) != Unknown || !strings.Contains(err.Error(), once.ErrDone.Error())):
			t.Errorf("%s: the repetition gets %d bytes, and the error is %v", name, len(again), err)
		}
		if master.Do("GET", "n") != counted {
			t.Errorf("%s: the repetition was carried out", name)
		}
	}
	// Of all these records two have an answer that is as long as it may be.
	if used := resp.Int(master.Do("EVAL", "redis.call('SELECT', 15) local n = 0 for _, k in ipairs(redis.call('KEYS', '*')) do n = n + redis.call('STRLEN', k) end return n", "0")); used > 2*once.MaxKeptBytes+10_000 {
		t.Errorf("the records have %d bytes", used)
	}
}
