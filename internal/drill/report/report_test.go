package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/valyala/quicktemplate"

	"holdfast/internal/goldentest"
	"holdfast/internal/history"
)

var pages = flag.String("pages", "", "a directory to write the pages of the samples to")

// drills are the histories with which every output is tested.
var drills = map[string]func() (history.History, history.Verdict){
	"holds":        sync.OnceValues(func() (history.History, history.Verdict) { return sample(usual) }),
	"broken":       sync.OnceValues(broken),
	"missed":       sync.OnceValues(missed),
	"course":       sync.OnceValues(course),
	"inconclusive": sync.OnceValues(inconclusive),
	"empty":        func() (history.History, history.Verdict) { return history.History{}, history.Verdict{} },
	"no-faults": sync.OnceValues(func() (history.History, history.Verdict) {
		o := usual
		o.withFaults = false
		return sample(o)
	}),
	"hostile": hostile,
}

// evil is a value that tries to control a browser or a terminal.
const evil = "</title></style></script><script>alert(1)</script><img src=x onerror=alert(2)>\"' {{.}} \x1b]0;owned\x07\x1b[2J\r\n\u202egnp.exe\x00\xff javascript:alert(3)"

// hostile returns a drill in which every text is evil and every number is odd.
func hostile() (history.History, history.Verdict) {
	op := history.Operation{Client: -1, Kind: history.Kind(evil), Key: evil, Verb: history.Verb(evil), From: evil, Value: evil, Expect: evil,
		Tries: 99, Due: -time.Hour, Start: 5 * time.Second, End: time.Second, Outcome: history.Outcome(evil), Got: evil, Members: []string{evil, evil}, Node: evil, Status: -1, Error: evil}
	read, set, cas := op, op, op
	read.Kind, read.Verb, read.Outcome, read.Found = history.Register, history.Read, history.OK, true
	set.Kind, set.Verb, set.Outcome, set.Found = history.Set, history.Read, history.OK, true
	cas.Verb, cas.Outcome, cas.Value = history.CAS, history.Unknown, strings.Repeat(evil, 20000)
	h := history.History{
		ID: evil, Stack: evil, Holdfast: evil, Repeat: evil, SickBefore: evil, SickAfter: evil, Seed: -1, Rate: -5, LoadEnd: 3 * time.Second,
		Faults: []history.Fault{
			{Name: evil, Targets: []string{evil, evil}, Promise: history.Promise{Failed: history.Allowance(evil), Unknown: history.Any, Pause: 1}, Evidence: evil, Trouble: evil, Moments: []time.Duration{-1, 2 * time.Second}, Undone: -1, Healthy: -1},
			{Name: evil, Began: time.Second, Undone: 0, Healthy: 0},
		},
		Notices:    []history.Notice{{At: -1, Node: evil, Text: evil}},
		Operations: []history.Operation{op, read, set, cas},
	}
	return h, history.Verdict{Result: history.Result(evil), Why: []string{evil}, Warnings: []string{evil},
		Anomalies: []history.Anomaly{{What: evil, Key: evil, Text: evil, Operations: []int{-1, 0, 1, 2, 3, 4, 1 << 40}}, {}},
		Faults:    []history.FaultAvailability{{Name: evil, Pause: -1, Recovery: -1}}}
}

func page(t *testing.T, h history.History, v history.Verdict) string {
	t.Helper()
	var b bytes.Buffer
	if err := HTML(&b, h, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestThePageIsWellFormedAndNeedsNothingElse(t *testing.T) {
	for name, drill := range drills {
		t.Run(name, func(t *testing.T) {
			h, v := drill()
			text := page(t, h, v)
			ids := map[string]bool{}
			if n := strings.Count(strings.ToLower(text), "<script"); n != 1 {
				t.Errorf("the page has %d scripts, want its own", n)
			}
			d := xml.NewDecoder(strings.NewReader(strings.Replace(text, pageScript, "", 1)))
			for {
				token, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("the page is not well-formed: %v", err)
				}
				start, ok := token.(xml.StartElement)
				if !ok {
					continue
				}
				switch start.Name.Local {
				case "img", "link", "iframe", "object", "embed", "base", "form", "a", "image", "use", "foreignObject":
					t.Errorf("the page has an element <%s>", start.Name.Local)
				}
				for _, a := range start.Attr {
					if n := strings.ToLower(a.Name.Local); n == "src" || n == "href" || n == "style" || strings.HasPrefix(n, "on") {
						t.Errorf("<%s> has an attribute %s", start.Name.Local, n)
					}
					if a.Name.Local == "id" {
						if ids[a.Value] {
							t.Errorf("two elements have the id %q", a.Value)
						}
						ids[a.Value] = true
					}
				}
			}
			if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("the page has an unprintable character at %d: %q", i, text[i:min(i+20, len(text))])
			}
			for _, want := range []string{"default-src 'none'", "<title>", "Repeat it"} {
				if !strings.Contains(strings.ReplaceAll(text, "&#39;", "'"), want) {
					t.Errorf("the page lacks %q", want)
				}
			}
		})
	}
}

// A text of a history may only appear in elements, including <title> and those of the pictures, and
// never in attributes, the style or the script.
func TestWhereAForeignTextStandsOnThePage(t *testing.T) {
	h, v := hostile()
	text := page(t, h, v)
	for element, want := range map[string]string{"style": pageStyle, "script": pageScript} {
		_, rest, _ := strings.Cut(text, "<"+element+">")
		if got, _, _ := strings.Cut(rest, "</"+element+">"); got != want {
			t.Errorf("<%s> has something else than the page's own: %q", element, got)
		}
	}
	in := map[string]bool{}
	var open []string
	d := xml.NewDecoder(strings.NewReader(strings.Replace(text, pageScript, "", 1)))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			open = append(open, token.Name.Local)
			for _, a := range token.Attr {
				if strings.ContainsAny(a.Value, "<>\"&") || strings.Contains(a.Value, "alert") {
					t.Errorf("<%s> has an attribute %s of %q", token.Name.Local, a.Name.Local, a.Value)
				}
			}
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if strings.Contains(string(token), "</title></") { // evil begins like this
				in[open[len(open)-1]] = true
			}
		}
	}
	for _, element := range []string{"title", "h1", "li", "b", "td", "code", "p", "dd", "pre", "desc", "text"} {
		if !in[element] {
			t.Errorf("no foreign text stands in a <%s>: the history is not hostile there any more", element)
		}
	}
}

// A browser reads every text back unchanged, and no text begins an element or an attribute, even in
// an attribute with quotes of either kind. That holds for the page and for its pictures.
func TestATextIsEscapedForElementsAndQuotedAttributes(t *testing.T) {
	texts := []string{evil, "<!--", "]]>", "&lt;", "&#0;", "+ADw-script+AD4-"}
	for b := range 0x300 {
		texts = append(texts, string(rune(b)), "a"+string([]byte{byte(b)})+"b")
	}
	var out bytes.Buffer
	w := quicktemplate.AcquireWriter(&out)
	defer quicktemplate.ReleaseWriter(w)
	for _, s := range texts {
		out.Reset()
		streamtext(w, s)
		var c canvas
		c.text("k", 1, 1, s)
		_, drawn, _ := strings.Cut(c.b.String(), ">")
		drawn = strings.TrimSuffix(drawn, "</text>\n")
		for _, got := range []string{out.String(), drawn} {
			if strings.ContainsAny(got, "<>\"'\x00") {
				t.Errorf("%q is %q on the page", s, got)
			}
			if read := html.UnescapeString(got); read != strings.ReplaceAll(s, "\x00", "\uFFFD") {
				t.Errorf("%q is %q on the page, and reads %q", s, got, read)
			}
		}
		if strings.Contains(out.String(), "+") {
			t.Errorf("%q begins UTF-7 on the page: %q", s, out.String())
		}
	}
}

func TestThePageSaysWhatTheVerdictSays(t *testing.T) {
	for name, wants := range map[string][]string{
		"holds":        {"<h1>holds</h1>", "every promise was kept", "1.2", "promised", "kill-master", "redis-1 (pid 4711) ended by signal 9", "none failed, none is unknown", "holdfast drill kill-master"},
		"broken":       {"<h1>broken</h1>", "lost write", "write(c12-9007)", "client 12", "sentinel-2", "14 failed, 9 unknown", "the machine was busy"},
		"missed":       {"<h1>missed</h1>", "30 operations failed, and none may", "312 ms"},
		"inconclusive": {"<h1>inconclusive</h1>", "That is no pass", "There is no evidence", "never healthy again", "interrupted", "web-2 is down"},
		"course":       {"Of the pause: clients whose entry was not cut off waited 2.22 s at the longest, 4.00 s promised."},
		"empty":        {"<h1>no verdict</h1>", "No operation was recorded", "Nothing was broken"},
		"no-faults":    {"Nothing was broken", `class="timeline"`},
	} {
		t.Run(name, func(t *testing.T) {
			h, v := drills[name]()
			text := page(t, h, v)
			for _, want := range wants {
				if !strings.Contains(text, want) {
					t.Errorf("the page lacks %q", want)
				}
			}
		})
	}
}

func TestALongDrillIsAShortPage(t *testing.T) {
	o := sampleOptions{length: 120 * time.Second, rate: 500, clients: 128, withFaults: true, failed: 60, unknown: 60}
	h, v := sample(o)
	for i := range 300 {
		a := history.Anomaly{What: "stale read", Key: fmt.Sprint("r", i), Text: strings.Repeat("long ", 1000)}
		for j := range 400 {
			a.Operations = append(a.Operations, i*100+j)
		}
		v.Anomalies = append(v.Anomalies, a)
		h.Notices = append(h.Notices, history.Notice{At: time.Duration(i) * time.Second / 3, Text: strings.Repeat("x", 10000)})
		v.Why = append(v.Why, strings.Repeat("why ", 1000))
	}
	for i := range h.Operations[:5000] {
		h.Operations[i].Outcome = history.Failed
	}
	began := time.Now()
	text := page(t, h, v)
	t.Logf("%d operations: %d kB in %v", len(h.Operations), len(text)/1000, time.Since(began))
	if len(text) > 2_000_000 {
		t.Errorf("the page of %d operations has %d bytes", len(h.Operations), len(text))
	}
	if !strings.Contains(text, "280 more anomalies") {
		t.Error("the page does not say how many anomalies it leaves out")
	}
}

func TestTheSummaryOnATerminal(t *testing.T) {
	for name, drill := range drills {
		t.Run(name, func(t *testing.T) {
			h, v := drill()
			var b bytes.Buffer
			if err := Text(&b, h, v, false); err != nil {
				t.Fatal(err)
			}
			goldentest.Check(t, filepath.Join("testdata", name+".txt"), b.String())
			for line := range strings.Lines(b.String()) {
				line = strings.TrimSuffix(line, "\n")
				if n := utf8.RuneCountInString(line); n > 100 && !strings.HasPrefix(line, "repeat it: ") {
					t.Errorf("a line has %d characters: %s", n, line)
				}
				if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("a line has a control character: %q", line)
				}
			}

			uncoloured := b.String()
			b.Reset()
			if err := Text(&b, h, v, true); err != nil {
				t.Fatal(err)
			}
			text := b.String()
			for _, code := range []string{bold, dim, red, green, yellow, plain} {
				text = strings.ReplaceAll(text, code, "")
			}
			if text != uncoloured {
				t.Errorf("with colours it says something else:\n%s", text)
			}
		})
	}
}

func TestTheSummaryForMachines(t *testing.T) {
	for name, drill := range drills {
		t.Run(name, func(t *testing.T) {
			h, v := drill()
			var b bytes.Buffer
			if err := JSON(&b, h, v); err != nil {
				t.Fatal(err)
			}
			var got struct {
				Result string
				Faults []struct {
					Name       string
					PauseMS    *float64 `json:"pause_ms"`
					Elsewhere  *float64 `json:"pause_elsewhere_ms"`
					Promised   *float64 `json:"promised_pause_elsewhere_ms"`
					RecoveryMS *float64 `json:"recovery_ms"`
				}
				Why []string
			}
			if err := json.Unmarshal(b.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if len(got.Faults) != len(h.Faults) || len(got.Why) != len(v.Why) || got.Why == nil || got.Faults == nil {
				t.Errorf("got %+v", got)
			}
			switch name {
			case "holds":
				if got.Result != "holds" || *got.Faults[0].RecoveryMS != 1240 || *got.Faults[0].PauseMS < 1200 {
					t.Errorf("got %s", b.String())
				}
			case "course":
				if f := got.Faults[13]; *f.Elsewhere != 2220 || *f.Promised != 4000 || got.Faults[0].Promised != nil {
					t.Errorf("got %s", b.String())
				}
			case "inconclusive":
				if got.Faults[1].RecoveryMS != nil {
					t.Error("a fault that nobody recovered from has a time of recovery")
				}
			}
			if b.Len() > 100_000 {
				t.Errorf("%d bytes; are the operations in it?", b.Len())
			}
		})
	}
}

func TestTimesAndNumbersAreReadByPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1: "never", 0: "0", 420 * time.Microsecond: "0.42 ms", 1234 * time.Microsecond: "1.2 ms", 9960 * time.Microsecond: "10 ms",
		204 * ms: "204 ms", 999600 * time.Microsecond: "1.00 s", 1212 * ms: "1.21 s", time.Hour: "3600 s",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("span(%d) is %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 60000: "60,000", 1234567: "1,234,567", -100: "-100", -1000: "-1,000"} {
		if got := number(n); got != want {
			t.Errorf("number(%d) is %q, want %q", n, got, want)
		}
	}
}

func TestAnOperationIsReadAtAGlance(t *testing.T) {
	for want, op := range map[string]history.Operation{
		"write(x)":               {Verb: history.Write, Value: "x", Outcome: history.OK},
		"write(x) ?":             {Verb: history.Write, Value: "x", Outcome: history.Unknown},
		"add(x) failed":          {Verb: history.Add, Value: "x", Outcome: history.Failed},
		"read→x":                 {Verb: history.Read, Kind: history.Register, From: "master", Found: true, Got: "x", Outcome: history.OK},
		"read(replica)→nothing":  {Verb: history.Read, Kind: history.Register, From: "replica", Outcome: history.OK},
		"final read→7":           {Verb: history.Read, Kind: history.Counter, Final: true, Found: true, Number: 7, Outcome: history.OK},
		"read→{a, b}":            {Verb: history.Read, Kind: history.Set, Found: true, Members: []string{"a", "b"}, Outcome: history.OK},
		"read→{5 members}":       {Verb: history.Read, Kind: history.Set, Found: true, Members: make([]string, 5), Outcome: history.OK},
		"cas(c10-1573→c36-1769)": {Verb: history.CAS, Expect: "c10-1573", Value: "c36-1769", Matched: true, Outcome: history.OK},
		"cas(x→y) no match":      {Verb: history.CAS, Expect: "x", Value: "y", Outcome: history.OK},
		"cas(x→y) ?":             {Verb: history.CAS, Expect: "x", Value: "y", Outcome: history.Unknown},
		"increment→3":            {Verb: history.Increment, Number: 3, Outcome: history.OK},
		"write(" + strings.Repeat("x", 16) + "…)": {Verb: history.Write, Value: strings.Repeat("x", 1000), Outcome: history.OK},
	} {
		if got := describeOperation(op, 24); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestBucketsHoldEveryOperationOnce(t *testing.T) {
	h, _ := missed()
	for _, end := range []time.Duration{0, time.Second, 41 * time.Second, 24 * time.Hour, 10000 * time.Hour} {
		s := gather(h.Operations, end)
		if len(s.Buckets) > mostBuckets {
			t.Errorf("%v make %d buckets", end, len(s.Buckets))
		}
		for _, s := range []series{s, s.coarse(120)} {
			n, due := 0, 0
			for _, b := range s.Buckets {
				n += b.OK + b.Failed + b.Unknown
				due += b.Answered + b.DueFailed + b.DueUnknown
			}
			if n != 20000 || due != 20000 {
				t.Errorf("%v: %d outcomes and %d due, want 20000", end, n, due)
			}
		}
		if s := s.coarse(120); len(s.Buckets) > 120 {
			t.Errorf("%v: the table has %d rows", end, len(s.Buckets))
		}
	}
}

// TestEverySampleIsAPage writes the pages of all samples into a directory, to be looked at: go test
// -run SampleIsAPage -pages DIR.
func TestEverySampleIsAPage(t *testing.T) {
	dir := *pages
	if dir == "" {
		dir = t.TempDir()
	}
	for name, drill := range drills {
		h, v := drill()
		text := page(t, h, v)
		if !strings.Contains(text[:40], "<!doctype html>") || !strings.Contains(text, "</html>") {
			t.Errorf("%s is no whole page", name)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".html"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
