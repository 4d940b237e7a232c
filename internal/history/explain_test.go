package history

import (
	"strings"
	"testing"
)

func TestOperationsAreExplainedInPlainText(t *testing.T) {
	ops := []built{
		reg(Write, 10, 20).value("a"), reg(CAS, 30, 40).expect("a").value("b").match(), reg(CAS, 50, 60).value("c"),
		reg(Write, 70, 80).value("d").unknown(), reg(Read, 85, 86).got("b").replica(100), reg(Read, 90, 91).final(),
		cnt(Increment, 100, 110).number(7), cnt(Read, 101, 110).number(7), set_(Add, 102, 110).value("x").failed(), set_(Read, 103, 110).members("x", "y"),
	}
	var h History
	a := Anomaly{Operations: []int{-1, 99}}
	for i, b := range ops {
		op := Operation(b)
		op.Client, op.Node = i, "web-1"
		if op.Outcome != OK {
			op.Status, op.Error, op.Tries = 504, "not confirmed", 2
		}
		h.Operations = append(h.Operations, op)
		a.Operations = append([]int{i}, a.Operations...)
	}
	want := []string{
		"10.000 ms - 20.000 ms client 0 write q a ok web-1",
		"30.000 ms - 40.000 ms client 1 cas q a to b -> done ok web-1",
		"50.000 ms - 60.000 ms client 2 cas q (absent) to c -> no match ok web-1",
		"70.000 ms - 80.000 ms client 3 write q d unknown web-1 504 not confirmed (2 tries)",
		"85.000 ms - 86.000 ms client 4 read q from replica -> b ok web-1",
		"90.000 ms - 91.000 ms client 5 final read q -> (absent) ok web-1",
		"100.000 ms - 110.000 ms client 6 increment n -> 7 ok web-1",
		"101.000 ms - 110.000 ms client 7 read n -> 7 ok web-1",
		"102.000 ms - 110.000 ms client 8 add m x failed web-1 504 not confirmed (2 tries)",
		"103.000 ms - 110.000 ms client 9 read m -> 2 members ok web-1",
	}
	lines := h.Explain(a)
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), strings.Join(lines, "\n"))
	}
	for i := range want {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != want[i] {
			t.Errorf("line %d: %q, want %q", i, got, want[i])
		}
	}
}
