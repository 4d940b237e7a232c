package election

import "testing"

func TestWhatTheOtherNodesHaveInCommon(t *testing.T) {
	replica := func(addr string, offset int64) Node {
		return Node{Address: addr, Answered: true, Follows: "m", Linked: true, Offset: offset}
	}
	stranger, unlinked, silent, promoted := replica("b", 9), replica("b", 9), replica("b", 9), replica("b", 9)
	stranger.Follows, unlinked.Linked, silent.Answered, promoted.Master = "x", false, false, true
	for name, c := range map[string]struct {
		nodes []Node
		want  int64
	}{
		"the least counts":      {[]Node{replica("a", 8), replica("b", 7)}, 7},
		"one follows another":   {[]Node{replica("a", 8), stranger}, 0},
		"one has no connection": {[]Node{replica("a", 8), unlinked}, 0},
		"one is silent":         {[]Node{silent, replica("a", 8)}, 0},
		"one is a master":       {[]Node{replica("a", 8), promoted}, 0},
		"nobody else":           {nil, 0},
	} {
		if got := InCommon(c.nodes, "m"); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
