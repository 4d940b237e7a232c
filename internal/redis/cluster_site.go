package redis

import (
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/rueidis"
)

// What an operation, its record, a refusal and a token say of slots.

// placement says where the commands of an operation are in a cluster.
type placement struct {
	at    []int      // each command's number in its request
	slots []int      // its slot
	keys  [][]string // its keys
	// asking: the slot is on its way to this node, which takes commands for it
	// only when they say so (manual, ASKING).
	asking bool
}

// asked prepends what lets a command at a slot that is on its way.
func (o *operation) asked(b rueidis.Builder, batch rueidis.Commands) rueidis.Commands {
	if o.site != nil && o.site.asking {
		return append(batch, b.Asking().Build())
	}
	return batch
}

// answered leaves the answers to ASKING and to logins out.
func (o *operation) answered(s *session, answers []rueidis.RedisResult) []rueidis.RedisResult {
	asking := o.site != nil && o.site.asking
	if !asking && o.login == nil {
		return answers
	}
	if o.script != nil || o.atomic { // it holds for all of a transaction
		if asking {
			answers = answers[1:]
		}
		if o.login != nil {
			last := len(answers) - 1
			s.loggedIn(answers[last].Error())
			answers = answers[:last]
		}
		return answers
	}
	own := make([]rueidis.RedisResult, 0, len(o.cmds))
	at := 0
	for _, cmd := range o.cmds {
		login := o.loginAround(cmd) != nil
		if login {
			s.loggedIn(answers[at].Error())
			at++
		}
		if asking {
			at++
		}
		own = append(own, answers[at])
		at++
		if login {
			s.loggedIn(answers[at].Error())
			at++
		}
	}
	return own
}

// onceInCluster is once for one command, ARGV[4...]. Behind the record, KEYS has
// the command's own: while a slot is on its way, Redis judges by them what of
// it is where. Several commands are several calls, each being in its own slot.
// onceFreeingInCluster is for one that takes no memory: see recording.
var (
	onceInCluster = newScript(recording+carrying+`
return {recorded(function() return carried(4, #ARGV) end)}`, false)
	onceFreeingInCluster = newScript(recording+carrying+`
return {recorded(function() return carried(4, #ARGV) end, true)}`, false)
)

// itemRecord names the record of one command. In a cluster it is where the
// command's keys are, whichever others the command is sent with.
func (o *operation) itemRecord(i int) string {
	if o.site == nil {
		return itemRecord(o.record, o.base+i)
	}
	return itemRecord(recordIn(o.site.slots[i], o.record), o.site.at[i])
}

// slotAmong is a slot that operations name, and so one of their master's;
// negative: they name none.
func slotAmong(ops []*operation) int {
	for _, o := range ops {
		if o.site != nil && !o.site.asking && len(o.site.slots) > 0 && o.site.slots[0] >= 0 {
			return o.site.slots[0]
		}
	}
	return -1
}

// recordIn puts a record into a slot.
func recordIn(slot int, record string) string {
	return idemPrefix + "{" + slotTags()[slot] + "}" + strings.TrimPrefix(record, idemPrefix)
}

// slotTags has a hash tag for each slot.
var slotTags = sync.OnceValue(func() *[slotCount]string {
	var tags [slotCount]string
	for n, left := uint64(0), slotCount; left > 0; n++ {
		tag := strconv.FormatUint(n, 36)
		if slot := slotOf(tag); tags[slot] == "" {
			tags[slot] = tag
			left--
		}
	}
	return &tags
})

// redirection is what a node says who has not got the slot, or not yet all of
// it.
type redirection struct{ code, addr string }

// ask is the address to be asked in its stead, this once.
func (d redirection) ask() string {
	if d.code == "ASK" {
		return d.addr
	}
	return ""
}

func redirectionOf(err error) redirection {
	text := Words(err)
	var reply *rueidis.RedisError
	if text == "" && errors.As(err, &reply) {
		text = reply.Error()
	}
	f := strings.Fields(text)
	if len(f) == 0 {
		return redirection{}
	}
	switch f[0] {
	case "MOVED", "ASK":
		if len(f) == 3 {
			return redirection{f[0], f[2]}
		}
	case "TRYAGAIN", "CLUSTERDOWN":
		return redirection{code: f[0]}
	}
	return redirection{}
}

// Tokens of a cluster: the mark of the map, and each shard's offset. With
// another map it says nothing, and the masters are asked.
const (
	clusterToken = "hfc1."
	tokenName    = 12
)

// tokenFor is the token of one shard, of a cluster's; false: a replica cannot
// be judged by it.
func tokenFor(t *topology, s *clusterShard, token string) (string, bool) {
	if token == "" {
		return "", true
	}
	rest, ok := strings.CutPrefix(token, clusterToken)
	mark, list, _ := strings.Cut(rest, ".")
	if n, err := strconv.ParseUint(mark, 16, 64); !ok || err != nil || n != t.mark {
		return "", false
	}
	name, offset := s.name()[:tokenName], int64(0)
	for entry := range strings.SplitSeq(list, ".") {
		id, digits, ok := strings.Cut(entry, "-")
		n, err := strconv.ParseInt(digits, 36, 64)
		if !ok || err != nil {
			return "", false
		}
		if id == name {
			offset = max(offset, n)
		}
	}
	return tokenOf(offset), true
}
