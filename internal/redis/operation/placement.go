package operation

import (
	"strings"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/once"
)

// PlainSet reports whether an operation is one for PlainSets.
func (o *Operation) PlainSet() bool {
	return o.attempt && len(o.Cmds[0]) == 3 && strings.EqualFold(o.Cmds[0][0], "set") && once.IsOfRequest(o.Record)
}

// Placement says where the commands of an operation are in a cluster.
type Placement struct {
	At    []int      // each command's number in its request
	Slots []int      // its slot
	Keys  [][]string // its keys
	// Asking is true if the slot is on its way to this node, which accepts commands for it
	// only behind ASKING (manual, ASKING).
	Asking bool
}

// Asked appends ASKING if the slot of the next command is on its way.
func (o *Operation) Asked(b rueidis.Builder, batch rueidis.Commands) rueidis.Commands {
	if o.Placement != nil && o.Placement.Asking {
		return append(batch, b.Asking().Build())
	}
	return batch
}

// ItemRecord returns the name of the record of one command. In a cluster it is in the slot of the
// command's keys, whichever other commands it is sent with.
func (o *Operation) ItemRecord(i int) string {
	if o.Placement == nil {
		return once.ItemRecord(o.Record, o.Base+i)
	}
	return once.ItemRecord(once.RecordIn(o.Placement.Slots[i], o.Record), o.Placement.At[i])
}

// SlotAmong returns a slot that operations name, and so one of their master's; negative: they name
// none.
func SlotAmong(ops []*Operation) int {
	for _, o := range ops {
		if o.Placement != nil && !o.Placement.Asking && len(o.Placement.Slots) > 0 && o.Placement.Slots[0] >= 0 {
			return o.Placement.Slots[0]
		}
	}
	return -1
}
