// Package history holds what the clients of a drill did and saw, and judges it: whether registers
// were linearizable, whether an acknowledged write is missing, whether counters are exact, and how
// long clients had to wait.
//
// Judge (judge.go) is the way in. It checks that the history can be judged at all (assume.go),
// looks at every key (register.go, counter.go, set.go), compares failures with what the faults
// promised (promise.go), and measures how long clients waited (available.go). Encode and Decode
// store a history in a file.
//
// The package is pure: values in, values out. Package load sends the requests, and package drill
// breaks things meanwhile.
//
// The last word on linearizability is porcupine's (github.com/anishathalye/porcupine, after Lowe's
// and Wing and Gong's algorithm). Nearly every register is judged without its search, with a proof
// that a person can follow; see register.go. The tests compare both.
package history

import "time"

// Kind is what a key holds.
type Kind string

// The kinds of key.
const (
	Register Kind = "register" // one value, read, written, compared and set
	Counter  Kind = "counter"  // a number that is only ever incremented by one
	Set      Kind = "set"      // members that are only ever added
	// URL is not a key but a request of the user's own. The content of its answer is not judged.
	URL Kind = "url"
)

// Verb is what an operation does.
type Verb string

// The verbs. Read applies to registers, counters and sets, Write and CAS to registers, Increment to
// counters, Add to sets, and Ask to URLs.
const (
	Read      Verb = "read"
	Write     Verb = "write"
	CAS       Verb = "cas"
	Increment Verb = "increment"
	Add       Verb = "add"
	Ask       Verb = "ask"
)

// Outcome is what became of an operation, as far as its client knows.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"  // it certainly did not happen
	Unknown Outcome = "unknown" // it may have happened, or may still happen
)

// Operation is one operation of one client. All times count from the
// history's beginning, on one monotonic clock.
type Operation struct {
	Client int    `json:"client"`
	Kind   Kind   `json:"kind"`
	Key    string `json:"key"`
	Verb   Verb   `json:"verb"`
	// From is where a read asked to be served from: master, replica or cached. Empty means master.
	// MaxAge is how old the answer may be (0 for master).
	From   string        `json:"from,omitempty"`
	MaxAge time.Duration `json:"max_age,omitempty"`
	// Value is what Write, CAS or Add stores. It is never empty, and no two operations of a history
	// have the same. Expect is the value that CAS requires; empty: the key must be absent.
	Value  string `json:"value,omitempty"`
	Expect string `json:"expect,omitempty"`
	// Once: the request had an Idempotency-Key, and its client repeated it while its outcome was
	// unknown. Tries counts the requests sent.
	Once  bool `json:"once,omitempty"`
	Tries int  `json:"tries,omitempty"`
	// Direct: the client bypassed the entry and asked a web node. The operation counts for safety,
	// but not for availability.
	Direct bool `json:"direct,omitempty"`
	// Final marks the reads of all keys after the load.
	Final bool `json:"final,omitempty"`

	// Due is when the request should have been sent, Start when it was sent, End when its outcome
	// was known. The client waited for End - Due.
	Due   time.Duration `json:"due"`
	Start time.Duration `json:"start"`
	End   time.Duration `json:"end"`

	Outcome Outcome `json:"outcome"`
	// Found reports whether a key that was read existed. Matched reports whether a CAS found what
	// it expected and stored its value. Got is a register's value, Number a counter's (as read, or
	// after an Increment), Members a set's.
	Found   bool     `json:"found,omitempty"`
	Matched bool     `json:"matched,omitempty"`
	Got     string   `json:"got,omitempty"`
	Number  int64    `json:"number,omitempty"`
	Members []string `json:"members,omitempty"`
	// Entry is the base URL of the entry to which the last request was sent.
	Entry string `json:"entry,omitempty"`
	// Node is the node that answered (Holdfast-Node), Status the HTTP status (0: no response), and
	// Error what went wrong.
	Node   string `json:"node,omitempty"`
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Allowance is how many operations a fault may cost.
type Allowance string

// The allowances, for failed and for unknown operations.
const (
	None     Allowance = "none"
	InFlight Allowance = "in flight" // at most those under way at one of the fault's moments
	CutOff   Allowance = "cut off"   // as InFlight, and any that were sent to one of the fault's Entries; see also DetectionDelay
	Any      Allowance = "any"
)

// Promise is what holds during a fault, besides safety, which must always hold.
type Promise struct {
	Failed  Allowance `json:"failed"`
	Unknown Allowance `json:"unknown"`
	// Pause is the longest that a client should have to wait. A longer pause is a warning and does
	// not change the result, because machines differ; but see Binding. 0: nothing is promised.
	Pause time.Duration `json:"pause,omitempty"`
	// PauseElsewhere is Pause for clients whose own entry is not among the fault's Entries: the cut
	// does not concern them.
	PauseElsewhere time.Duration `json:"pause_elsewhere,omitempty"`
	// Binding: the promise is missed if the pause is longer, or if Fault.Harm is not empty. It is
	// for faults that consist of a client's requests: other clients must not notice them.
	Binding bool `json:"binding,omitempty"`
}

// Fault is one thing that was broken.
type Fault struct {
	Name    string   `json:"name"`
	Targets []string `json:"targets,omitempty"` // nodes or hosts
	Promise Promise  `json:"promise"`
	// Anything: it is unknown what the fault strikes, as for a command of the user's own.
	Anything bool `json:"anything,omitempty"`
	// Entries are the base URLs of the entries that a cut leaves on the wrong side; see CutOff.
	Entries []string `json:"entries,omitempty"`
	// DetectionDelay is how long after a blow a balancer elsewhere may not have noticed what was
	// cut off. Operations that it passes on there, until the fault is undone, count as under way at
	// the blow. They have no answer, or the balancer's 502 or 504.
	DetectionDelay time.Duration `json:"unaware,omitempty"`
	// Began is when the fault began, Moments when each injection happened, Undone when it was
	// undone, and Healthy when the stack was well again. A negative time means never.
	Began   time.Duration   `json:"began"`
	Moments []time.Duration `json:"moments,omitempty"`
	Undone  time.Duration   `json:"undone"`
	Healthy time.Duration   `json:"healthy"`
	// Evidence describes how it is known that the fault really happened; empty: it is not known.
	Evidence string `json:"evidence,omitempty"`
	// Harm lists, in sentences, what the fault did to others against its promise: a working master
	// was replaced, a process ended, a new client was not served.
	Harm []string `json:"harm,omitempty"`
	// Wrong lists, in sentences, wrong answers that the fault's own requests got: a request that
	// happened twice, a key that was gone before its time.
	Wrong []string `json:"wrong,omitempty"`
	// Trouble is what went wrong while breaking or undoing; empty: nothing.
	Trouble string `json:"trouble,omitempty"`
}

// Notice is something that happened to the stack and was no part of the drill.
type Notice struct {
	At   time.Duration `json:"at"`
	Node string        `json:"node,omitempty"`
	Text string        `json:"text"`
}

// History is a whole drill.
type History struct {
	ID       string    `json:"id"`
	Stack    string    `json:"stack"`
	Holdfast string    `json:"holdfast"` // version
	Began    time.Time `json:"began"`    // wall clock
	// Repeat is the command line that runs the same drill again.
	Repeat string `json:"repeat"`
	// App is the application whose keys the operations use. It is empty if the operations are
	// requests for URLs, which URLs then lists as method and URL.
	App  string   `json:"app,omitempty"`
	URLs []string `json:"urls,omitempty"`

	Seed    int64 `json:"seed"`
	Rate    int   `json:"rate"` // operations per second that were asked for
	Clients int   `json:"clients"`
	// LoadEnd is when the last operation of the load was due.
	LoadEnd time.Duration `json:"load_end"`
	// SickBefore and SickAfter describe why the stack was not well before the load and after the
	// last fault; empty: it was well.
	SickBefore string `json:"sick_before,omitempty"`
	SickAfter  string `json:"sick_after,omitempty"`
	// Interrupted: the drill was stopped before its end.
	Interrupted bool `json:"interrupted,omitempty"`

	Faults     []Fault     `json:"faults"`
	Notices    []Notice    `json:"notices"`
	Operations []Operation `json:"-"` // in the order of End
}

// OfURLs reports whether the load was requests for URLs. Only availability and latency of such a
// history can be judged.
func (h History) OfURLs() bool { return len(h.URLs) > 0 }
