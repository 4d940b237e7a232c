package history

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func encoded(t testing.TB, h History) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Encode(&b, h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAHistoryComesBackAsItWas(t *testing.T) {
	h := newSimulation(1, noBug).run()
	h.Notices = []Notice{{At: 5, Node: "redis-1", Text: "\"<&\n"}}
	h.Repeat, h.Seed = "holdfast drill kill-master --seed 7", 7
	text := encoded(t, h)
	back, err := Decode(iotest.OneByteReader(bytes.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encoded(t, back), text) {
		t.Error("encoded again, it differs")
	}
	for i := range h.Operations { // an empty list is the same as no list
		if len(h.Operations[i].Members) == 0 {
			h.Operations[i].Members, back.Operations[i].Members = nil, nil
		}
	}
	if !reflect.DeepEqual(h, back) {
		t.Error("decoded, it differs")
	}
}

const (
	head = `{"holdfast_history":6,"operations":2,"id":"x","rate":1,"clients":1,"load_end":10,"faults":null,"notices":null}` + "\n"
	op1  = `{"client":0,"kind":"register","key":"r","verb":"write","value":"a","due":0,"start":1,"end":2,"outcome":"ok"}` + "\n"
	op2  = `{"client":0,"kind":"register","key":"r","verb":"read","due":3,"start":3,"end":4,"outcome":"ok","found":true,"got":"a"}` + "\n"
)

func TestDecodeSaysWhichLineIsWrongAndWhy(t *testing.T) {
	if _, err := Decode(strings.NewReader(head + op1 + op2)); err != nil {
		t.Fatal(err)
	}
	other := func(text, old, new string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("no %q in %q", old, text)
		}
		return strings.Replace(text, old, new, 1)
	}
	for _, c := range []struct{ text, want string }{
		{"", "line 1: the file is empty"},
		{"\n", "line 1: this is no history"},
		{"hello\n", "line 1: this is no history"},
		{"{}\n", "line 1: this is no history"},
		{`{"holdfast_history":1}` + "\n", "line 1: a history of version 1; this program reads version 6"},
		{other(head, `"rate":1`, `"rate":"x"`), "line 1: not as it should be"},
		{other(head, `"rate":1`, `"rate":-1`), "line 1: a rate of -1 cannot be"},
		{other(head, `"clients":1`, `"clients":-1`), "line 1: -1 clients cannot be"},
		{other(head, `"load_end":10`, `"load_end":-1`), "line 1: load_end"},
		{other(head, `"rate":1`, `"speed":1`), `line 1: not as it should be: json: unknown field "speed"`},
		{other(head, `"operations":2`, `"operations":-2`), "line 1: -2 operations"},
		{other(head, `"faults":null`, `"faults":[{"name":"f","promise":{"failed":"some","unknown":"any"},"began":1,"undone":2,"healthy":3}]`), `line 1: fault 1, "f": an allowance of "some" is not known`},
		{other(head, `"faults":null`, `"faults":[{"name":"f","promise":{"failed":"any","unknown":"any"},"began":3,"undone":2,"healthy":1}]`), "healthy again before it began"},
		{other(head, `"faults":null`, `"faults":[{"name":"f","promise":{"failed":"any","unknown":"any"},"began":9000000000000000000,"undone":2,"healthy":1}]`), "cannot be"},
		{strings.TrimSuffix(head, "\n"), "line 1: the file is cut off in the midst of this line"},
		{head, "line 2: the file is cut off: 0 of 2 operations are there"},
		{head + op1, "line 3: the file is cut off: 1 of 2 operations are there"},
		{head + op1 + op2[:20], "line 3: the file is cut off in the midst of this line"},
		{head + op1 + op2 + op2, "line 4: there is more than the 2 operations"},
		{head + op1 + op2 + "x", "line 4: there is more than the 2 operations"},
		{head + "\n" + op1 + op2, "line 2: it is empty"},
		{head + op1 + strings.TrimSuffix(op2, "\n") + op2, "line 3: more than one value in a line"},
		{head + op1 + other(op2, `"read"`, `"peek"`), `line 3: unknown verb "peek" of a register`},
		{head + op1 + other(op2, `"read"`, `"add"`), `line 3: unknown verb "add" of a register`},
		{head + op1 + other(op2, `"register"`, `"queue"`), `line 3: unknown kind "queue" of key`},
		{head + op1 + other(op2, `"outcome":"ok"`, `"outcome":"maybe"`), `line 3: unknown outcome "maybe"`},
		{head + op1 + other(op2, `"key":"r"`, `"key":"r","from":"moon"`), `line 3: unknown source "moon"`},
		{head + op1 + other(op2, `"key":"r"`, `"key":"r","max_age":-1`), `line 3: a greatest age of`},
		{head + op1 + other(op2, `"key":"r"`, `"key":""`), `line 3: an operation without a key`},
		{head + op1 + other(op2, `"end":4`, `"end":2`), `line 3: end 2ns is before start 3ns`},
		{head + op1 + other(op2, `"due":3`, `"due":-3`), `line 3: times due -3ns`},
		{head + other(op1, `"value":"a",`, ``) + op2, `line 2: a write without a value`},
		{head + op1 + other(op2, `"due":3`, `"dew":3`), `line 3: not as it should be: json: unknown field "dew"`},
	} {
		_, err := Decode(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("of %q: %v, want %s", c.text, err, c.want)
		}
	}
}

func TestErrorsOfReaderAndWriterComeThrough(t *testing.T) {
	broken := errors.New("broken disk")
	r := io.MultiReader(strings.NewReader(head), iotest.ErrReader(broken))
	if _, err := Decode(r); !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "line 2: ") {
		t.Error(err)
	}
	if err := Encode(brokenWriter{broken}, good()); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func FuzzDecode(f *testing.F) {
	f.Add([]byte(head + op1 + op2))
	f.Add(encoded(f, good()))
	for _, c := range judgements {
		f.Add(encoded(f, History{Rate: 1, LoadEnd: 1, Operations: with(c.ops...).Operations[400:]}))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := Decode(bytes.NewReader(text))
		if err != nil {
			return
		}
		again := encoded(t, h)
		back, err := Decode(bytes.NewReader(again))
		if err != nil {
			t.Fatalf("what was decoded cannot be decoded again: %v", err)
		}
		if !bytes.Equal(again, encoded(t, back)) {
			t.Error("encoded twice, it differs")
		}
		v := judge(h, ms)
		for _, a := range v.Anomalies {
			if len(h.Explain(a)) != len(a.Operations) {
				t.Errorf("anomaly %+v is not explained", a)
			}
		}
	})
}
