package history

import (
	"strings"
	"testing"
)

func TestAnAnswerThatItsClientFoundImpossibleIsAnAnomaly(t *testing.T) {
	op := Operation{Client: 3, Kind: Set, Key: "s", Verb: Add, Value: "a", Start: 1e9, End: 2e9, Outcome: OK, Error: "it was there before"}
	v := Judge(History{Operations: []Operation{op}})
	if v.Result != Broken || len(v.Anomalies) != 1 || v.Anomalies[0].What != ImpossibleRead || !strings.Contains(v.Anomalies[0].Text, "it was there before") {
		t.Errorf("verdict = %+v", v)
	}
	op.Outcome = Unknown
	if v := Judge(History{Operations: []Operation{op}}); len(v.Anomalies) > 0 {
		t.Errorf("an error of an unknown outcome is none: %+v", v.Anomalies)
	}
}
