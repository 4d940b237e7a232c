package redis

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/readpipe"
	"holdfast/internal/redis/redistest"
)

// filled is a server with keys of 1,000 elements and a string of 10,000 bytes.
func filled(t *testing.T) (*redistest.Cluster, *Client) {
	t.Helper()
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	do(t, client, &Request{Commands: []Command{{"EVAL", `
for i = 1, 1000 do
  redis.call('SADD', 'set', i) redis.call('HSET', 'hash', i, i) redis.call('ZADD', 'zset', i, i) redis.call('RPUSH', 'list', i)
  redis.call('XADD', 'stream', '*', 'f', i) redis.call('GEOADD', 'geo', 0, i / 100, i) redis.call('ZADD', 'lex', 0, 1000 + i)
end
redis.call('XGROUP', 'CREATE', 'stream', 'g', '0') redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', '300', 'STREAMS', 'stream', '>')
redis.call('SADD', 'few', 1, 2) redis.call('SETRANGE', 'string', 9999, 'x')
return 1`, "0"}}})
	return cluster, client
}

// A command that Redis calls fast is not when a number among its words makes it long.
func TestFastCommandsWithLargeNumbersAreNotBrief(t *testing.T) {
	_, client := filled(t)
	many := strings.Repeat(" x", command.BriefWords)
	for line, want := range map[string]bool{
		"SPOP set": true, "SPOP set 100": true, "SPOP set 101": false, "LPOP list 5": true, "RPOP list 1000000": false, "ZPOPMAX zset 1000": false,
		"SETBIT string 100 1": true, "SETBIT string 4294967295 1": false, "XAUTOCLAIM stream g c 0 0": true, "XAUTOCLAIM stream g c 0 0 COUNT 1000": false,
		"LOLWUT": true, "LOLWUT VERSION 5": true, "LOLWUT VERSION 6 1000 1000": false,
		"SADD set 1 2 3": true, "SADD set" + many: false, "MGET" + many: false, "MGET a b c": true, "MGET" + strings.Repeat(" x", 40): false, "HMGET hash" + strings.Repeat(" 1", 40): false,
		"XDEL stream 1 2": true, "XDEL stream" + many[:40]: false, "XCLAIM stream g c 0 1": true, "XCLAIM stream g c 0" + many[:40]: false, "DEL" + many: false,
	} {
		cmd := strings.Fields(line)
		spec, err := client.Spec(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		if got := spec.BriefFor(cmd); got != want {
			t.Errorf("%.40s is brief: %t", line, got)
		}
		if r := (&Request{Commands: []Command{cmd}}); spec.Fast && readpipe.ForExpress(r, spec) && !want {
			t.Errorf("%.40s is one for a lane", line)
		}
	}
}

// What would take too long is refused before it is sent, with words that say what
// to do; the rest of a pipeline is carried out.
func TestWhatWouldTakeTooLongIsRefused(t *testing.T) {
	cluster, client := filled(t)
	for what, r := range map[string]*Request{
		"a command":                    {Commands: commands("HRANDFIELD hash -1000000")},
		"a command with a key":         {Commands: commands("SETRANGE new 400000000 x"), IdempotencyKey: "1"},
		"one in a pipeline":            {Commands: commands("LPUSH l a", "SRANDMEMBER set -1000000", "LPUSH l b", "HGETALL none")},
		"one in a pipeline with a key": {Commands: commands("LPUSH l a", "SETBIT new 4294967295 1", "LPUSH l b"), IdempotencyKey: "2"},
		"one that scripts cannot do":   {Commands: commands("SORT none", "LCS string string"), IdempotencyKey: "3"},
	} {
		if err := client.Do(t.Context(), r); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		for i, result := range r.Results {
			words := Words(result.Err)
			long := strings.Contains("HRANDFIELD SETRANGE SRANDMEMBER SETBIT LCS", r.Commands[i][0])
			if long != strings.Contains(words, "would keep Redis from everybody else") || !long && result.Err != nil || long && !strings.Contains(words, "use ") {
				t.Errorf("%s: %v: %v", what, r.Commands[i], result.Err)
			}
		}
	}
	if got := cluster.Nodes[0].Do("LLEN", "l"); got != "4" {
		t.Errorf("the list has %s elements", got)
	}
	long := commands("SET whole 1")
	const perStored = 2200 // nanoseconds for each member that ZRANGESTORE stores (package cost)
	for range 2 * int(cost.LongestCommand/(1000*perStored)) {
		long = append(long, commands("ZRANGESTORE d zset 0 -1")...)
	}
	for _, cmds := range [][]Command{long, commands("EVAL return(1) 0", "EVAL return(2) 0", "EVAL return(3) 0")} {
		r := &Request{Commands: cmds, Atomic: true}
		if err := client.Do(t.Context(), r); KindOf(err) != Refused || !strings.Contains(Words(err), "the transaction would keep Redis") {
			t.Errorf("a transaction of %v…: %v", cmds[0], err)
		}
	}
	if got := cluster.Nodes[0].Do("EXISTS", "whole"); got != "0" {
		t.Error("a part of a transaction was carried out")
	}
	r := &Request{Commands: long}
	began := time.Now()
	for _, word := range do(t, client, r)[1:] {
		if word != "1000" {
			t.Fatalf("as a pipeline: %s", word)
		}
	}
	t.Logf("a pipeline of %d took %v", len(long), time.Since(began))
}
