// Package hashslot computes which hash slot of a Redis Cluster a key is in. Who owns a slot is
// another matter.
package hashslot

import (
	"strconv"
	"strings"
	"sync"

	"holdfast/internal/redis/outcome"
)

// Count is how many hash slots a cluster has (manual, "Redis cluster specification").
const Count = 16384

// Any stands for the slot of a command without keys.
const Any = -1

// ErrCross is the refusal of keys in different slots, in Redis' own words.
var ErrCross = outcome.RedisError("CROSSSLOT Keys in request don't hash to the same slot")

// Of returns the slot of a key: the CRC16 of the key, or of its hash tag. The tag is the
// part between the first { and the first } behind it, if that is not empty.
func Of(key string) int {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if length := strings.IndexByte(key[open+1:], '}'); length > 0 {
			key = key[open+1 : open+1+length]
		}
	}
	crc := uint16(0)
	for i := range len(key) {
		crc = crc<<8 ^ crc16[byte(crc>>8)^key[i]]
	}
	return int(crc % Count)
}

// crc16 is the table of the CRC that the specification names: polynomial 0x1021, most
// significant bit first.
var crc16 = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()

// OfAll returns the one slot of all keys; Any if there are no keys.
func OfAll(keys []string) (int, error) {
	slot := Any
	for _, key := range keys {
		s := Of(key)
		if slot != Any && s != slot {
			return 0, ErrCross
		}
		slot = s
	}
	return slot, nil
}

// Tag returns a hash tag of a slot: keys with it are in that slot.
func Tag(slot int) string { return slotTags()[slot] }

// slotTags has a hash tag for each slot.
var slotTags = sync.OnceValue(func() *[Count]string {
	var tags [Count]string
	for n, left := uint64(0), Count; left > 0; n++ {
		tag := strconv.FormatUint(n, 36)
		if slot := Of(tag); tags[slot] == "" {
			tags[slot] = tag
			left--
		}
	}
	return &tags
})
