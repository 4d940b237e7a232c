package redis

import (
	"strings"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/once"
)

// plainSet reports whether an operation is one for PlainSets.
func (o *operation) plainSet() bool {
	return o.attempt && len(o.cmds[0]) == 3 && strings.EqualFold(o.cmds[0][0], "set") && once.IsOfRequest(o.record)
}

// placement says where the commands of an operation are in a cluster.
type placement struct {
	at    []int      // each command's number in its request
	slots []int      // its slot
	keys  [][]string // its keys
	// asking is true if the slot is on its way to this node, which accepts commands for it
	// only behind ASKING (manual, ASKING).
	asking bool
}

// asked appends ASKING if the slot of the next command is on its way.
func (o *operation) asked(b rueidis.Builder, batch rueidis.Commands) rueidis.Commands {
	if o.site != nil && o.site.asking {
		return append(batch, b.Asking().Build())
	}
	return batch
}

// ItemRecord returns the name of the record of one command. In a cluster it is in the slot of the
// command's keys, whichever other commands it is sent with.
func (o *operation) itemRecord(i int) string {
	if o.site == nil {
		return once.ItemRecord(o.record, o.base+i)
	}
	return once.ItemRecord(once.RecordIn(o.site.slots[i], o.record), o.site.at[i])
}

// slotAmong returns a slot that operations name, and so one of their master's; negative: they name
// none.
func slotAmong(ops []*operation) int {
	for _, o := range ops {
		if o.site != nil && !o.site.asking && len(o.site.slots) > 0 && o.site.slots[0] >= 0 {
			return o.site.slots[0]
		}
	}
	return -1
}
