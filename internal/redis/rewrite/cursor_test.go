package rewrite

import (
	"strconv"
	"testing"
)

func TestACursorsNumberHasRoomForLargeTables(t *testing.T) {
	a, b := OriginOf("a process"), OriginOf("another process")
	if a == b {
		t.Fatal("two processes are one")
	}
	for _, raw := range []uint64{1, 2, 1 << 20, 1<<32 - 1, 1 << 40} {
		text, ok := a.give(strconv.FormatUint(raw, 10))
		if !ok {
			t.Errorf("no room for %d", raw)
		}
		if back, whose := a.Take(text); whose != own || back != strconv.FormatUint(raw, 10) {
			t.Errorf("%d comes back as %s", raw, back)
		}
		if _, whose := b.Take(text); whose != foreign {
			t.Errorf("%s is taken for its own by another process", text)
		}
		if n, _ := strconv.ParseUint(text, 10, 64); raw < 1<<32 && n >= 1<<53 {
			t.Errorf("%d is %d, more than a float has room for", raw, n)
		}
	}
	if _, ok := a.give("9223372036854775808"); ok {
		t.Error("a cursor that has no room for its origin")
	}
}
