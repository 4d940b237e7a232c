package hashslot

import "testing"

func TestKeysOfOneCommandHaveToShareASlot(t *testing.T) {
	for _, c := range []struct {
		keys []string
		want int
	}{
		{[]string{"foo"}, 12182}, {[]string{"{a}x", "{a}y", "a"}, Of("a")}, {[]string{"{}a", "{}a"}, Of("{}a")}, {nil, Any},
	} {
		if slot, err := OfAll(c.keys); slot != c.want || err != nil {
			t.Errorf("%q: slot %d, %v; want %d", c.keys, slot, err, c.want)
		}
	}
	if _, err := OfAll([]string{"a", "b"}); err != ErrCross {
		t.Errorf("two slots: %v", err)
	}
	for slot := range Count {
		if tag := "{" + Tag(slot) + "}"; Of(tag+"key") != slot {
			t.Fatalf("%s is not in slot %d", tag, slot)
		}
	}
}
