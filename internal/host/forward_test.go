package host

import "testing"

// A host that has just joined asks one of the others after the other: each is asked soon.
func TestEveryOtherHostIsAskedInTurn(t *testing.T) {
	h := &Host{self: Self{Name: "four"}, roster: roster{Hosts: map[string]Member{}}}
	if name, is := h.anyOther(); is {
		t.Errorf("of none there is %s", name)
	}
	for _, name := range []string{"one", "two", "three", "four"} {
		h.roster.Hosts[name] = Member{Name: name}
	}
	for range 5 {
		asked := map[string]bool{}
		for range 3 {
			name, _ := h.anyOther()
			asked[name] = true
		}
		if len(asked) != 3 || asked["four"] {
			t.Fatalf("of three others, three questions went to %v", asked)
		}
	}
}
