package once

import (
	"strings"
	"testing"

	"holdfast/internal/redis/redistest"
)

// A process that was stopped between its look and the removal removes nothing that was made since.
func TestAListThatWasWrittenSinceTheLookIsLeft(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t, 0, 0).Nodes[0]
	do := func(words ...string) string {
		return node.Do(append([]string{"EVAL", "redis.call('SELECT', 15) return redis.call(unpack(ARGV))", "0"}, words...)...)
	}
	const name = "30000:3"
	list, hash := Prefix+"made"+name, strings.Repeat("h", HashSize)
	do("SET", Prefix+hash, "")
	do("RPUSH", list, hash)
	retire := func() string { return node.Do("EVAL", retireList.Source, "0", "15", Prefix, name, "1", hash) }

	do("RPUSH", list, strings.Repeat("x", HashSize))
	if got := retire(); got != "" {
		t.Errorf("a longer list: %q", got)
	}
	do("LPOP", list) // as long as before, with another end
	if got := retire(); got != "" {
		t.Errorf("another last record: %q", got)
	}
	if got := do("EXISTS", Prefix+hash); got != "1" {
		t.Error("the record is gone")
	}

	do("DEL", list)
	do("RPUSH", list, hash)
	if got := retire(); got != "0" {
		t.Errorf("the list as it was seen: %q", got)
	}
	if got := do("EXISTS", Prefix+hash); got != "0" {
		t.Error("the record is there")
	}
}
