package history

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// built is an operation that a test builds step by step.
type built Operation

// on returns an acknowledged operation; its times are in milliseconds.
func on(key string, kind Kind, verb Verb, start, end int) built {
	return built{Kind: kind, Key: key, Verb: verb, Outcome: OK,
		Due: time.Duration(start) * ms, Start: time.Duration(start) * ms, End: time.Duration(end) * ms}
}

func (b built) value(v string) built      { b.Value = v; return b }
func (b built) expect(v string) built     { b.Expect = v; return b }
func (b built) match() built              { b.Matched = true; return b }
func (b built) got(v string) built        { b.Got, b.Found = v, true; return b }
func (b built) number(n int64) built      { b.Number, b.Found = n, true; return b }
func (b built) members(m ...string) built { b.Members, b.Found = m, true; return b }
func (b built) failed() built             { b.Outcome = Failed; return b }
func (b built) unknown() built            { b.Outcome = Unknown; return b }
func (b built) final() built              { b.Final = true; return b }
func (b built) replica(age int) built {
	b.From, b.MaxAge = "replica", time.Duration(age)*ms
	return b
}

// with returns a good drill with some more operations. Any operation may fail or be unknown.
func with(more ...built) History {
	h := good()
	h.Faults[0].Promise = Promise{Failed: Any, Unknown: Any}
	h.Faults[0].Began, h.Faults[0].Moments = 6*ms, nil
	for i, b := range more {
		op := Operation(b)
		op.Client = 100 + i
		h.Operations = append(h.Operations, op)
	}
	return h
}

func reg(verb Verb, start, end int) built  { return on("q", Register, verb, start, end) }
func cnt(verb Verb, start, end int) built  { return on("n", Counter, verb, start, end) }
func set_(verb Verb, start, end int) built { return on("m", Set, verb, start, end) }

// judgement is some operations on one key, and the anomaly that they contain.
type judgement struct {
	what string
	ops  []built
	want string // the anomaly; empty: no anomaly
	text string // part of its text
	also []int  // indices in ops of operations that the anomaly has to name
}

var judgements = []judgement{
	{"a write is read", []built{reg(Write, 10, 20).value("a"), reg(Read, 30, 40).got("a").final()}, "", "", nil},
	{"a write is lost", []built{reg(Write, 10, 20).value("a"), reg(Write, 30, 40).value("b"), reg(Read, 500, 510).got("a").final()},
		LostWrite, `the final read found "a"; lost is "b", which client 101 had written, acknowledged at 0.040 s`, []int{0, 1, 2}},
	{"the only write is lost", []built{reg(Write, 10, 20).value("a"), reg(Read, 500, 510).final()}, LostWrite, "the final read found the key absent", []int{0, 1}},
	{"several writes are lost", []built{reg(Write, 10, 20).value("a"), reg(Write, 30, 40).value("b"), reg(Write, 50, 60).value("c"), reg(Read, 500, 510).got("a").final()},
		LostWrite, `"b", which client 101 had written, acknowledged at 0.040 s, and 1 more write`, []int{0, 1, 2, 3}},
	{"an unknown write that was read is lost", []built{reg(Write, 10, 20).value("a"), reg(Write, 30, 40).value("b").unknown(),
		reg(Read, 50, 60).got("b"), reg(Read, 500, 510).got("a").final()}, LostWrite, `"b", which client 102 had seen at 0.060 s`, []int{0, 1, 2, 3}},
	{"an unknown write never happened", []built{reg(Write, 10, 20).value("a"), reg(Write, 30, 40).value("b").unknown(), reg(Read, 500, 510).got("a").final()}, "", "", nil},
	{"an unknown write happened late", []built{reg(Write, 10, 20).value("a"), reg(Write, 30, 40).value("b").unknown(), reg(Read, 500, 510).got("a"),
		reg(Read, 600, 610).got("b").final()}, "", "", nil},
	{"concurrent writes in either order", []built{reg(Write, 10, 40).value("a"), reg(Write, 20, 30).value("b"), reg(Read, 500, 510).got("a").final()}, "", "", nil},
	{"a stale read", []built{reg(Write, 10, 20).value("a"), reg(Write, 30, 40).value("b"), reg(Read, 50, 60).got("a"), reg(Read, 500, 510).got("b").final()},
		StaleRead, `client 102 read "a", begun at 0.050 s, and so not "b"`, []int{0, 1, 2}},
	{"a stale read of what was lost and overwritten", []built{reg(Write, 10, 20).value("a"), reg(Write, 30, 40).value("b"), reg(Read, 50, 60).got("a"),
		reg(Write, 70, 80).value("c"), reg(Read, 500, 510).got("c").final()}, StaleRead, "nobody saw that later, it may be lost", []int{0, 1, 2}},
	{"a read that overlaps the write may be old", []built{reg(Write, 10, 20).value("a"), reg(Write, 30, 55).value("b"), reg(Read, 50, 60).got("a"),
		reg(Read, 500, 510).got("b").final()}, "", "", nil},
	{"new, then old", []built{reg(Write, 10, 20).value("a"), reg(Write, 30, 90).value("b"), reg(Read, 40, 50).got("b"), reg(Read, 60, 70).got("a"),
		reg(Read, 500, 510).got("b").final()}, StaleRead, `"a", begun at 0.060 s, and so not "b", which client 102 had seen`, []int{0, 1, 2, 3}},
	{"absent after a write", []built{reg(Write, 10, 20).value("a"), reg(Read, 30, 40), reg(Read, 500, 510).got("a").final()}, StaleRead, "the key absent", nil},
	{"nobody wrote it", []built{reg(Read, 30, 40).got("x"), reg(Read, 500, 510).final()}, ImpossibleRead, `read "x" at 0.040 s, which nobody wrote`, []int{0}},
	{"a failed write is read", []built{reg(Write, 10, 20).value("a").failed(), reg(Read, 30, 40).got("a").final()}, ImpossibleRead, "had failed for certain", []int{0, 1}},
	{"a read before its write", []built{reg(Read, 10, 20).got("a"), reg(Write, 30, 40).value("a"), reg(Read, 500, 510).got("a").final()}, ImpossibleRead, "before anybody had begun to write it", []int{0, 1}},
	{"no match, and stored", []built{reg(Write, 10, 20).value("a"), reg(CAS, 30, 40).expect("x").value("b"), reg(Read, 500, 510).got("b").final()},
		ImpossibleRead, "of a compare-and-set that did not match", []int{1, 2}},
	{"compare-and-sets in a row", []built{reg(CAS, 10, 20).value("a").match(), reg(CAS, 30, 40).expect("a").value("b").match(), reg(Read, 500, 510).got("b").final()}, "", "", nil},
	{"a wrong match", []built{reg(Write, 10, 20).value("a"), reg(Write, 30, 40).value("b"), reg(CAS, 50, 60).expect("a").value("c").match(), reg(Read, 500, 510).got("c").final()},
		NotLinearizable, `matched "a", and so not "b"`, []int{0, 1, 2}},
	{"two match the same", []built{reg(Write, 10, 20).value("a"), reg(CAS, 30, 60).expect("a").value("b").match(), reg(CAS, 40, 50).expect("a").value("c").match(),
		reg(Read, 500, 510).got("c").final()}, NotLinearizable, `both matched "a"`, []int{1, 2}},
	{"a match of what nobody wrote", []built{reg(CAS, 30, 60).expect("x").value("b").match(), reg(Read, 500, 510).got("b").final()}, ImpossibleRead, `matched "x"`, []int{0}},
	{"a circle of matches", []built{reg(CAS, 10, 60).expect("b").value("a").match(), reg(CAS, 20, 50).expect("a").value("b").match(), reg(Read, 55, 510).got("b").final()},
		NotLinearizable, "in a circle", []int{0, 1}},
	{"the expected was there all the time", []built{reg(Write, 10, 20).value("a"), reg(CAS, 30, 40).expect("a").value("b"), reg(Read, 500, 510).got("a").final()},
		NotLinearizable, `did not find "a", which was there before it, and after it`, []int{0, 1, 2}},
	{"the expected was there, and nobody else wrote", []built{reg(Write, 10, 20).value("a"), reg(CAS, 30, 40).expect("a").value("b"), reg(Read, 35, 510).got("a").final()},
		NotLinearizable, `did not find "a", which was there before it; no other write can have come between`, []int{0, 1}},
	{"no order, as only a search finds", []built{reg(Write, 10, 20).value("a"), reg(Write, 25, 60).value("w"), reg(CAS, 28, 40).expect("a").value("b"),
		reg(CAS, 41, 50).expect("w").value("c"), reg(Read, 55, 58).got("w").final()}, NotLinearizable, "no order of the operations", []int{1, 3}},
	{"an unknown write excuses", []built{reg(Write, 10, 20).value("a"), reg(Write, 15, 25).value("u").unknown(), reg(CAS, 30, 40).expect("a").value("b"),
		reg(Read, 35, 510).got("a").final()}, "", "", nil},
	{"an unknown compare-and-set matched", []built{reg(Write, 10, 20).value("a"), reg(CAS, 30, 40).expect("a").value("b").unknown(), reg(Read, 500, 510).got("b").final()}, "", "", nil},
	{"an unknown compare-and-set cannot have matched", []built{reg(Write, 10, 20).value("a"), reg(Write, 22, 24).value("c"),
		reg(CAS, 30, 40).expect("a").value("b").unknown(), reg(Read, 500, 510).got("b").final()}, NotLinearizable, "", []int{0, 1, 2, 3}},
	{"an old replica", []built{reg(Write, 10, 20).value("a"), reg(Write, 30, 40).value("b"), reg(Read, 241, 260).got("a").replica(200), reg(Read, 500, 510).got("b").final()},
		StaleRead, `from a replica, at most 200ms old, at 0.260 s, although "b"`, []int{0, 1, 2}},
	{"a replica that is not too old", []built{reg(Write, 10, 20).value("a"), reg(Write, 30, 40).value("b"), reg(Read, 239, 260).got("a").replica(200), reg(Read, 500, 510).got("b").final()}, "", "", nil},
	{"a replica without the key", []built{reg(Write, 10, 20).value("a"), reg(Read, 241, 260).replica(200), reg(Read, 500, 510).got("a").final()}, StaleRead, "the key absent", nil},

	{"a counter", []built{cnt(Increment, 10, 20).number(1), cnt(Increment, 15, 25).number(2), cnt(Read, 500, 510).number(2).final()}, "", "", nil},
	{"one number twice", []built{cnt(Increment, 10, 20).number(1), cnt(Increment, 15, 25).number(1), cnt(Read, 500, 510).number(2).final()},
		WrongCounter, "both got the number 1", []int{0, 1}},
	{"numbers out of order", []built{cnt(Increment, 10, 20).number(2), cnt(Increment, 30, 40).number(1), cnt(Read, 500, 510).number(2).final()},
		WrongCounter, "got the number 1 at 0.040 s, although 2 was there at 0.020 s", []int{0, 1}},
	{"an increment is lost", []built{cnt(Increment, 10, 20).number(1), cnt(Increment, 30, 40).number(2), cnt(Read, 500, 510).number(1).final()},
		LostWrite, "the final read found 1; 2 increments had been acknowledged", []int{1, 2}},
	{"an increment counts twice", []built{cnt(Increment, 10, 20).number(1), cnt(Increment, 30, 40).number(3), cnt(Read, 500, 510).number(3).final()},
		WrongCounter, "only 2 increments were acknowledged and 0 are unknown", []int{1}},
	{"an unknown increment counts", []built{cnt(Increment, 10, 20).number(1), cnt(Increment, 12, 14).unknown(), cnt(Increment, 30, 40).number(3), cnt(Read, 500, 510).number(3).final()}, "", "", nil},
	{"an unknown increment counts twice", []built{cnt(Increment, 10, 20).number(1), cnt(Increment, 12, 14).unknown(), cnt(Read, 500, 510).number(3).final()},
		WrongCounter, "told 3", []int{2}},
	{"a failed increment counts", []built{cnt(Increment, 10, 20).number(1), cnt(Increment, 12, 14).failed(), cnt(Read, 500, 510).number(2).final()}, WrongCounter, "told 2", nil},
	{"a number before its increment", []built{cnt(Read, 2, 5).number(1), cnt(Increment, 10, 20).unknown(), cnt(Read, 500, 510).number(1).final()}, WrongCounter, "told 1 at 0.005 s", nil},
	{"a counter goes back", []built{cnt(Increment, 10, 20).unknown(), cnt(Read, 30, 40).number(1), cnt(Read, 50, 60).number(0), cnt(Read, 500, 510).number(1).final()}, StaleRead, "read 0 at 0.060 s", []int{1, 2}},
	{"an increment after a read gets its number", []built{cnt(Increment, 10, 60).unknown(), cnt(Read, 30, 40).number(1), cnt(Increment, 50, 70).number(1), cnt(Read, 500, 510).number(1).final()}, WrongCounter, "although 1 was there", nil},
	{"a counter below 0", []built{cnt(Read, 10, 20).number(-1), cnt(Read, 500, 510).number(0).final()}, ImpossibleRead, "begins at 0", nil},
	{"an increment to 0", []built{cnt(Increment, 10, 20).number(0), cnt(Read, 500, 510).number(1).final()}, ImpossibleRead, "the number 0", nil},
	{"an old counter of a replica", []built{cnt(Increment, 10, 20).number(1), cnt(Read, 121, 130).replica(100), cnt(Read, 500, 510).number(1).final()}, StaleRead, "read 0 from a replica", nil},
	{"a counter of a replica", []built{cnt(Increment, 10, 20).number(1), cnt(Read, 119, 130).replica(100), cnt(Read, 500, 510).number(1).final()}, "", "", nil},
	{"a counter of a replica from the future", []built{cnt(Read, 2, 5).number(1).replica(100), cnt(Increment, 10, 20).number(1), cnt(Read, 500, 510).number(1).final()}, ImpossibleRead, "had begun", nil},

	{"a set", []built{set_(Add, 10, 20).value("a"), set_(Add, 15, 40).value("b"), set_(Read, 30, 35).members("a"), set_(Read, 500, 510).members("b", "a").final()}, "", "", nil},
	{"a member is lost", []built{set_(Add, 10, 20).value("a"), set_(Add, 15, 40).value("b"), set_(Read, 500, 510).members("b").final()}, LostWrite, `the final read lacks "a"`, []int{0, 2}},
	{"all members are lost", []built{set_(Add, 10, 20).value("a"), set_(Add, 15, 40).value("b"), set_(Read, 500, 510).final()}, LostWrite, `"a", which was acknowledged at 0.020 s, and 1 more`, []int{0, 1, 2}},
	{"a stale set", []built{set_(Add, 10, 20).value("a"), set_(Read, 30, 40), set_(Read, 500, 510).members("a").final()}, StaleRead, `lacks "a"`, []int{0, 1}},
	{"a member is seen, and then gone", []built{set_(Add, 10, 20).value("a").unknown(), set_(Read, 30, 40).members("a"), set_(Read, 50, 60), set_(Read, 500, 510).members("a").final()},
		WrongSet, `lacks "a", which client 101 had read`, []int{0, 1, 2}},
	{"an unknown member", []built{set_(Add, 10, 20).value("a").unknown(), set_(Read, 30, 40), set_(Read, 50, 60).members("a"), set_(Read, 500, 510).members("a").final()}, "", "", nil},
	{"a failed member", []built{set_(Add, 10, 20).value("a").failed(), set_(Read, 500, 510).members("a").final()}, ImpossibleRead, "had failed for certain", []int{0, 1}},
	{"a member of nobody", []built{set_(Read, 500, 510).members("a").final()}, ImpossibleRead, "nobody added", []int{0}},
	{"a member before its time", []built{set_(Read, 2, 5).members("a"), set_(Add, 10, 20).value("a"), set_(Read, 500, 510).members("a").final()}, ImpossibleRead, "had begun to add it", []int{0, 1}},
	{"two reads of which neither has the other's", []built{set_(Add, 10, 300).value("a"), set_(Add, 15, 300).value("b"), set_(Read, 30, 40).members("a"),
		set_(Read, 35, 45).members("b"), set_(Read, 500, 510).members("a", "b").final()}, WrongSet, "each lacks what the other has", []int{2, 3}},
	{"a member without one that was there before it", []built{set_(Add, 10, 20).value("a"), set_(Add, 30, 40).value("b"), set_(Read, 15, 45).members("b"),
		set_(Read, 500, 510).members("a", "b").final()}, StaleRead, `lacks "a"`, []int{0, 2}},
	{"a member twice", []built{set_(Add, 10, 20).value("a"), set_(Read, 500, 510).members("a", "a").final()}, WrongSet, "more than once", nil},
	{"an old set of a replica", []built{set_(Add, 10, 20).value("a"), set_(Read, 121, 130).replica(100), set_(Read, 500, 510).members("a").final()}, StaleRead, "from a replica", nil},
	{"a set of a replica", []built{set_(Add, 10, 20).value("a"), set_(Read, 119, 130).replica(100), set_(Read, 500, 510).members("a").final()}, "", "", nil},
}

func TestEachAnomalyIsFoundAndNoOther(t *testing.T) {
	for _, c := range judgements {
		t.Run(c.what, func(t *testing.T) {
			h := with(c.ops...)
			v := Judge(h)
			if c.want == "" {
				if v.Result != Holds {
					t.Errorf("%s: %q", v.Result, v.Why)
				}
				return
			}
			if v.Result != Broken || len(v.Why) == 0 {
				t.Fatalf("%s: %q, want %s", v.Result, v.Why, c.want)
			}
			for _, a := range v.Anomalies {
				if a.What != c.want || a.Key != c.ops[0].Key || !strings.Contains(a.Text, c.text) {
					t.Errorf("%s of %s: %q, want %s: %q", a.What, a.Key, a.Text, c.want, c.text)
				}
				for _, n := range c.also {
					if !slices.Contains(a.Operations, 403+n) {
						t.Errorf("operation %d is not among those of %q:\n%s", n, a.Text, strings.Join(h.Explain(a), "\n"))
					}
				}
			}
		})
	}
}

// What the table says of registers agrees with porcupine.
func TestTheTableAgreesWithPorcupine(t *testing.T) {
	for _, c := range judgements {
		if c.ops[0].Kind != Register || slices.ContainsFunc(c.ops, func(b built) bool { return b.From == "replica" }) || c.what == "an unknown write excuses" {
			continue
		}
		var ops []Operation
		for _, b := range c.ops {
			ops = append(ops, Operation(b))
		}
		if got := porcupineResult(ops, all(ops)); (got == porcupine.Ok) != (c.want == "") {
			t.Errorf("%s: porcupine says %s", c.what, got)
		}
	}
}
