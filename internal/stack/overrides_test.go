package stack

import (
	"reflect"
	"testing"
)

func TestOverridesAreBroughtBackFromWhatWasSaidSince(t *testing.T) {
	some := Overrides{
		Nodes: map[string]int{"web": 3}, Programs: map[string]Program{"shop": {Command: []string{"run"}}},
		Releases: map[string]string{"shop": "aa"}, Drained: map[string]bool{"web-1": true},
	}
	others := Overrides{
		Nodes: map[string]int{"web": 4, "shop": 2}, Programs: map[string]Program{"cart": {Command: []string{"go"}}},
		Releases: map[string]string{"shop": "bb", "cart": "cc"}, Drained: map[string]bool{"web-2": true},
	}
	none := Overrides{}.With(Overrides{})
	for _, c := range []struct{ want, have Overrides }{
		{some, others}, {others, some}, {some, Overrides{}}, {Overrides{}, some}, {some, some},
	} {
		if got, want := c.have.With(c.want.ChangeFrom(c.have)), none.With(c.want); !reflect.DeepEqual(got, want) {
			t.Errorf("from %+v it becomes %+v, want %+v", c.have, got, want)
		}
	}
}
