package eventloop

import (
	"fmt"
	"testing"
	"time"
)

func TestWhoYieldsIsTheGreediestsOldest(t *testing.T) {
	var closed []string
	add := func(all []waiting, source string, part bool, since ...int) []waiting {
		for _, at := range since {
			name := fmt.Sprintf("%s %v %d", source, part, at)
			all = append(all, waiting{source, part, time.Duration(at), func() { closed = append(closed, name) }})
		}
		return all
	}
	var all []waiting
	all = add(all, "a", false, 1, 2)
	all = add(all, "b", false, 1)
	all = add(all, "b", true, 9, 7, 8, 6, 5)
	all = add(all, "c", true, 4, 3, 2)
	for count, want := range map[int]string{
		1:  "[b true 5]",
		3:  "[b true 5 b true 6 b true 7]",
		5:  "[b true 5 b true 6 b true 7 b true 8 c true 2]",
		99: "[b true 5 b true 6 b true 7 b true 8 b true 9 b false 1 c true 2 c true 3 c true 4 a false 1 a false 2]",
	} {
		closed = nil
		for _, w := range choose(all, count) {
			w.close()
		}
		if fmt.Sprint(closed) != want {
			t.Errorf("%d of them: %v, want %s", count, closed, want)
		}
	}
	if len(choose(nil, 3)) != 0 {
		t.Error("nobody is somebody")
	}
}
