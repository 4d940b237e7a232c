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

// Verdict is what a history shows.
type Verdict struct {
	Result Result `json:"result"`
	// Consistency says whether answers and writes were judged, or availability and
	// latency alone: the load was requests for URLs.
	Consistency bool `json:"consistency"`
	// Why says in sentences what led to any other result than Holds.
	Why []string `json:"why,omitempty"`
	// Warnings are worth knowing and change no result: a pause longer than
	// promised, a machine that was busy.
	Warnings  []string  `json:"warnings,omitempty"`
	Anomalies []Anomaly `json:"anomalies,omitempty"`
	// Checked says what was looked at, and how much of it.
	Checked Checked `json:"checked"`
	// Whole is of the load as a whole; Faults one for each fault, in order.
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
	// Operations are the indices, in History.Operations, of those that prove
	// it and, for a register, of those around.
	Operations []int `json:"operations"`
}

// Checked counts what was judged.
type Checked struct {
	Operations   int `json:"operations"`
	Acknowledged int `json:"acknowledged_writes"`
	// Direct counts the operations, among these, of clients that asked a web node
	// directly. They are no part of Whole and Faults.
	Direct    int `json:"direct"`
	Registers int `json:"registers"`
	Counters  int `json:"counters"`
	Sets      int `json:"sets"`
	// ReadBack counts the final reads that answered.
	ReadBack int `json:"read_back"`
}

// Availability is what clients saw in a span of time.
type Availability struct {
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
	// Of the operations due in it.
	Operations int `json:"operations"`
	Failed     int `json:"failed"`
	Unknown    int `json:"unknown"`
	Held       int `json:"held"` // waited for heldFrom and more, and were answered
	// Latency from when an operation was due; of those that were answered.
	P50 time.Duration `json:"p50"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

// FaultAvailability is what one fault cost.
type FaultAvailability struct {
	Name   string       `json:"name"`
	Before Availability `json:"before"`
	During Availability `json:"during"` // from Fault.Began until Recovered
	After  Availability `json:"after"`
	// Pause is the longest that a client waited for an answer, from when the
	// operation was due, among those that overlap the fault. Silence is the
	// longest time in which no client got an answer.
	Pause   time.Duration `json:"pause"`
	Silence time.Duration `json:"silence"`
	// Elsewhere is Pause without the operations whose first or last request went
	// to an entry that the fault cut off (Fault.Entries): what their clients
	// waited for is the end of the cut. Where none was cut off it is Pause.
	Elsewhere time.Duration `json:"pause_elsewhere"`
	// Recovery is from Began until answers came as before: for half a second,
	// or until the next fault began, every operation was answered, and none
	// waited longer than four times the 99th percentile of before, or 50 ms if
	// that is more. Negative: they never did, or the load ended too soon to know.
	Recovery time.Duration `json:"recovery"`
}
