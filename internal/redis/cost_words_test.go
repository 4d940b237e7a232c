package redis

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

// A few large elements may take as long as very many small ones, and so may a key
// that is named again and again, a long pattern and a long program. Such a command
// is refused, and its likes with little in them are carried out.
func TestWordsAndBytesThatAreMuchWorkAreRefused(t *testing.T) {
	cluster, client := filled(t)
	long := strings.Repeat("x", 1<<20)
	for i := range 10 {
		member := strconv.Itoa(i) + long
		for _, cmd := range []Command{{"SADD", "bytes", member}, {"HSET", "fields", strconv.Itoa(i), long}, {"ZADD", "scores", "1", member}, {"SET", "value", long}} {
			cluster.Nodes[0].Do(cmd...)
		}
	}
	cluster.Nodes[0].Do("EVAL", `for i = 1, 40000 do redis.call('XADD', 'entries', i .. '-1', 'f', 'v') end redis.call('XGROUP', 'CREATE', 'entries', 'g', '0')`, "0")
	keys := func(n int, key string) []string { return strings.Fields(strings.Repeat(" "+key, n)) }
	with := func(words string, more ...string) Command { return append(strings.Fields(words), more...) }
	fields := keys(300, "1")
	ids := make([]string, 30000)
	for i := range ids {
		ids[i] = "1-" + strconv.Itoa(i+1)
	}
	for what, c := range map[string]struct {
		cmd  Command
		long bool
	}{
		"a union of a set with itself":         {with("SUNION", keys(2000, "bytes")...), true},
		"nine times the same":                  {with("SUNIONSTORE d", keys(9, "few")...), true},
		"a union of few":                       {with("SUNION", keys(3, "few")...), false},
		"a union of sorted sets":               {with("ZUNIONSTORE d 9", keys(9, "scores")...), true},
		"a difference with it":                 {with("SDIFF set", keys(200, "bytes")...), true},
		"long members, drawn again and again":  {with("SRANDMEMBER bytes -5000"), true},
		"short ones":                           {with("SRANDMEMBER set -5000"), false},
		"long fields, drawn again and again":   {with("HRANDFIELD fields -1000 WITHVALUES"), true},
		"one value, again and again":           {with("MGET", keys(300, "value")...), true},
		"one short value, again and again":     {with("MGET", keys(300, "string")...), false},
		"one field, again and again":           {with("HMGET fields", fields...), true},
		"a long pattern of SORT":               {with("SORT list BY", long+"*"), true},
		"another one":                          {with("SORT list BY nosort GET", long+"*"), true},
		"a pattern that is tried at each byte": {with("SSCAN bytes 0 MATCH", "*"+strings.Repeat("x", 2000)+"y"), true},
		"of question marks":                    {with("ZSCAN scores 0 MATCH", "*"+strings.Repeat("?", 100)+"y"), true},
		"of classes":                           {with("SCAN 0 MATCH", "*"+strings.Repeat("[ab]", 100)), true},
		"a pattern for all of it":              {with("HSCAN fields 0 MATCH *12 COUNT 100"), false},
		"a long pattern without asterisks":     {with("SSCAN set 0 MATCH", long), false},
		"one with a date":                      {with("SCAN 0 MATCH *:20??-??-??:* COUNT 1000"), false},
		"a long script":                        {with("EVAL", strings.Repeat("x=1 ", 1<<20), "0"), true},
		"the same to be kept":                  {with("SCRIPT LOAD", strings.Repeat("x=1 ", 1<<20)), true},
		"a short script":                       {with("EVAL return(1) 0"), false},
		"entries that are claimed":             {with("XCLAIM stream g c 0", ids...), true},
		"as many as are pending":               {with("XPENDING stream g - + 1000000"), true},
		"entries that are delivered":           {with("XREADGROUP GROUP g c STREAMS entries >"), true},
		"a thousand of them":                   {with("XREADGROUP GROUP g c COUNT 1000 STREAMS entries >"), false},
		"entries that are deleted":             {with("XDEL stream", append(ids, ids...)...), true},
	} {
		r := &Request{Commands: []Command{c.cmd}}
		if err := client.Do(t.Context(), r); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		words := Words(r.Results[0].Err)
		if KindOf(r.Results[0].Err) == TooLong && c.long {
			continue // limits.answer refuses it as well
		}
		if c.long != strings.Contains(words, "would keep Redis from everybody else") || c.long != strings.Contains(words, "; use ") || !c.long && words != "" {
			t.Errorf("%s: %.200q, %v", what, words, r.Results[0].Err)
		}
	}
}

// To publish is brief, but not where there are many patterns to try.
func TestToPublishToManyPatternsIsNotBrief(t *testing.T) {
	cluster, client := filled(t)
	long := strings.Repeat("a", 100000)
	brief := func(channel string) bool {
		o, err := client.maker.Make(t.Context(), &Request{Commands: []Command{{"PUBLISH", channel, "b"}}})
		return err == nil && o.Brief
	}
	if !brief("a") || brief(long) {
		t.Error("without a pattern a long name is not brief, and a short one is")
	}
	if err := client.Subscribe(t.Context(), true, []string{"*" + strings.Repeat("a", 50) + "b"}, func(Message) {}); KindOf(err) != Invalid {
		t.Errorf("a pattern that is tried at each byte: %v", err)
	}
	patterns := make([]string, 200)
	for i := range patterns {
		patterns[i] = "a*" + strconv.Itoa(i)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = client.Subscribe(ctx, true, patterns, func(Message) {}) }()
	redistest.Eventually(t, 5*time.Second, "the patterns are there", func() bool { return cluster.Nodes[0].Do("PUBSUB", "NUMPAT") == "200" })
	if brief("a") {
		t.Error("to publish to 200 patterns is brief")
	}
	r := &Request{Commands: []Command{{"PUBLISH", "a7", "b"}, {"PUBLISH", long, "b"}}}
	if err := client.Do(t.Context(), r); err != nil || r.Results[0].Reply.Int() != 1 || !strings.Contains(Words(r.Results[1].Err), "a shorter name") {
		t.Errorf("%v: %+v", err, r.Results)
	}
	cancel()
	<-ended
	if !brief("a") {
		t.Error("nobody listens any more, and to publish is not brief")
	}
}

// A pipeline that reads one value again and again goes in slices, as long as they may be.
func TestAPipelineThatReadsOneValueAgainAndAgainIsAnswered(t *testing.T) {
	_, client := filled(t)
	r := &Request{}
	for range 20 {
		r.Commands = append(r.Commands, Command{"GET", "string"}, Command{"SET", "x", "1"})
	}
	o, err := client.maker.Make(t.Context(), r)
	if err != nil || o.Brief {
		t.Errorf("the operation is brief: %v", err)
	}
	if got := do(t, client, r); len(got) != len(r.Commands) || len(got[38]) != 10000 || got[39] != "OK" {
		t.Errorf("%d results", len(got))
	}
}
