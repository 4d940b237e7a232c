package redis

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/redistest"
)

// A GET has the answer that Redis gives to it, whichever way it goes and whatever the
// key had before: a value may be long at any time, and an empty string is no missing key.
func TestABoundedReadHasTheAnswerOfGET(t *testing.T) {
	t.Parallel()
	client, cluster := inSyncWith(t)
	master, replica := cluster.Nodes[0], cluster.Nodes[1]
	x := ride(t, client)

	values := []string{"short", strings.Repeat("l", 3<<20), "", "7", strings.Repeat("a", meter.LargeAnswer), "none", strings.Repeat("b", meter.LargeAnswer+1), "short", ""}
	for _, value := range values {
		if value == "none" {
			master.Do("DEL", "k")
		} else {
			master.Do("SET", "k", value)
		}
		redistest.Eventually(t, 5*time.Second, "the replica has it", func() bool { return replica.Do("GET", "k") == master.Do("GET", "k") })
		want := reading("GET", "k")
		client.cfg.Answers.PlainReads.Store(true)
		do(t, client, want)
		client.cfg.Answers.PlainReads.Store(false)

		for name, r := range map[string]*Request{
			"the master":  reading("GET", "k"),
			"a replica":   {Commands: commands("get k"), Read: ReadReplica},
			"the cache":   {Commands: commands("GET k"), Read: ReadCached},
			"with a WAIT": {Commands: commands("GET k"), WantToken: true},
		} {
			redistest.Eventually(t, 5*time.Second, name+" has the value that was set", func() bool {
				do(t, client, r)
				return spell(&r.Results[0].Reply) == spell(&want.Results[0].Reply)
			})
		}

		// An Express either has the same answer or has it asked again.
		r, landed := reading("GET", "k"), false
		redistest.Eventually(t, 5*time.Second, "an answer counts", func() bool {
			reads(t, client, 5*time.Millisecond)
			if !x.takes(t, r) {
				return len(value) > meter.LargeAnswer
			}
			x.send(t)
			landed = x.arrive(t, 1<<20)
			return landed
		})
		if landed && x.Answer(0, r) && spell(&r.Results[0].Reply) != spell(&want.Results[0].Reply) {
			t.Errorf("an Express has an answer of %d bytes, and %d are right", len(r.Results[0].Reply.Text()), len(value))
		}
	}

	master.Do("DEL", "k")
	master.Do("SADD", "k", "member")
	for range 2 {
		r := reading("GET", "k")
		do(t, client, r)
		if got := Words(r.Results[0].Err); !strings.HasPrefix(got, "WRONGTYPE") {
			t.Errorf("of a set: %q", got)
		}
	}
}

// A Redis user that has GET, and nothing that stands for it, reads all the same.
func TestAUserWithoutGETRANGEReads(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 0)
	master := cluster.Nodes[0]
	client := open(t, cluster, nil)
	do(t, client, &Request{Commands: commands("SET k v")})
	for _, n := range cluster.Nodes {
		n.Do("ACL", "SETUSER", redistest.Username, "-getrange", "-exists")
	}
	for range 2 {
		r := reading("GET", "k")
		do(t, client, r)
		if got := r.Results[0].Reply.Text(); got != "v" {
			t.Errorf("it reads %q", got)
		}
	}
	if !client.cfg.Answers.PlainReads.Load() {
		t.Error("every read is refused first")
	}
	if got := master.Do("GET", "k"); got != "v" {
		t.Errorf("the value is %q", got)
	}
}
