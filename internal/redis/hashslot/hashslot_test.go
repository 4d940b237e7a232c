package hashslot_test

import (
	"testing"

	"holdfast/internal/redis/hashslot"
)

func TestKeysOfOneCommandHaveToShareASlot(t *testing.T) {
	for _, c := range []struct {
		keys []string
		want int
	}{
		{[]string{"foo"}, 12182}, {[]string{"{a}x", "{a}y", "a"}, hashslot.Of("a")}, {[]string{"{}a", "{}a"}, hashslot.Of("{}a")}, {nil, hashslot.Any},
	} {
		if slot, err := hashslot.OfAll(c.keys); slot != c.want || err != nil {
			t.Errorf("%q: slot %d, %v; want %d", c.keys, slot, err, c.want)
		}
	}
	if _, err := hashslot.OfAll([]string{"a", "b"}); err != hashslot.ErrCross {
		t.Errorf("two slots: %v", err)
	}
	for slot := range hashslot.Count {
		if tag := "{" + hashslot.Tag(slot) + "}"; hashslot.Of(tag+"key") != slot {
			t.Fatalf("%s is not in slot %d", tag, slot)
		}
	}
}
