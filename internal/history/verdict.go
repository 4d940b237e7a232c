package history

import "time"

// Result is the verdict on a drill in one word.
type Result string

// The results, from good to bad.
const (
	Holds        Result = "holds"        // safe, and every promise was kept
	Inconclusive Result = "inconclusive" // the drill could not judge
	Missed       Result = "missed"       // safe, but it cost more than promised
	Broken       Result = "broken"       // an answer was wrong, or a write is lost
)

// Verdict is the judgement on a history.
type Verdict struct {
	Result Result `json:"result"`
	// Consistency is false if the load was requests for URLs: then only availability and latency
	// were judged.
	Consistency bool `json:"consistency"`
	// Why lists, in sentences, what led to any other result than Holds.
	Why []string `json:"why,omitempty"`
	// Warnings do not change the result: a pause longer than promised, a busy machine.
	Warnings  []string  `json:"warnings,omitempty"`
	Anomalies []Anomaly `json:"anomalies,omitempty"`
	// Checked counts what was judged.
	Checked Checked `json:"checked"`
	// Whole is about the whole load. Faults has one element for each fault, in order.
	Whole  Availability        `json:"whole"`
	Faults []FaultAvailability `json:"faults"`
}

// Anomaly is one proof that something is wrong.
type Anomaly struct {
	// What is one of LostWrite, NotLinearizable, WrongCounter, WrongSet,
	// StaleRead and ImpossibleRead.
	What string `json:"what"`
	Key  string `json:"key"`
	Text string `json:"text"`
	// Operations are indices in History.Operations: of the operations that prove the anomaly and,
	// for a register, of some around them.
	Operations []int `json:"operations"`
}

// Checked counts what was judged.
type Checked struct {
	Operations   int `json:"operations"`
	Acknowledged int `json:"acknowledged_writes"`
	// Direct is the number of those operations whose clients asked a web node directly. Whole and
	// Faults leave them out.
	Direct    int `json:"direct"`
	Registers int `json:"registers"`
	Counters  int `json:"counters"`
	Sets      int `json:"sets"`
	// ReadBack is the number of final reads that were answered.
	ReadBack int `json:"read_back"`
}

// Availability is what clients saw in a span of time.
type Availability struct {
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
	// The numbers of operations that were due in this time.
	Operations int `json:"operations"`
	Failed     int `json:"failed"`
	Unknown    int `json:"unknown"`
	Held       int `json:"held"` // answered after heldFrom or later
	// Latency of answered operations, measured from when they were due.
	P50 time.Duration `json:"p50"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

// FaultAvailability is what one fault cost.
type FaultAvailability struct {
	Name   string       `json:"name"`
	Before Availability `json:"before"`
	During Availability `json:"during"` // from Fault.Began until the recovery
	After  Availability `json:"after"`
	// Pause is the longest time that a client waited for an answer, from when the operation was
	// due, among the operations that overlap the fault. Silence is the longest time in which no
	// client got an answer.
	Pause   time.Duration `json:"pause"`
	Silence time.Duration `json:"silence"`
	// Elsewhere is Pause without the operations whose first or last request went to an entry that
	// the fault cut off (Fault.Entries): their clients waited for the end of the cut. If no entry
	// was cut off, it equals Pause.
	Elsewhere time.Duration `json:"pause_elsewhere"`
	// Recovery is the time from Began until answers came as before: for half a second, or until the
	// next fault began, every operation was answered, and none waited longer than four times the
	// 99th percentile before the fault, or than 50 ms if that is more. Negative: that never
	// happened, or the load ended too soon to know.
	Recovery time.Duration `json:"recovery"`
}
