// Package history holds what the clients of a drill did and saw, and judges
// it: whether registers were linearizable, whether an acknowledged write is
// missing, whether counters are exact, and how long clients had to wait. It is
// pure: values in, values out. Who sends the requests is package load's
// affair, and what is broken meanwhile package drill's.
//
// Linearizability is porcupine's word (github.com/anishathalye/porcupine, after
// Lowe's and Wing and Gong's algorithm). An answer that needs no search, which
// is nearly every one, is found before it is asked, with a proof that a person
// can follow; register.go says how, and the tests hold both against each other.
package history

import "time"

// Kind is what a key holds.
type Kind string

// The kinds of key.
const (
	Register Kind = "register" // one value, read, written, compared and set
	Counter  Kind = "counter"  // a number that is only ever incremented by one
	Set      Kind = "set"      // members that are only ever added
	// URL is no key but a request of the user's own: what its answer says is
	// not judged.
	URL Kind = "url"
)

// Verb is what an operation does.
type Verb string

// The verbs. Read is of every kind of key, Write and CAS of registers, Increment
// of counters, Add of sets, Ask of URLs.
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
	Unknown Outcome = "unknown" // it may have happened, or happen yet
)

// Operation is one operation of one client. All times count from the
// history's beginning, on one monotonic clock.
type Operation struct {
	Client int    `json:"client"`
	Kind   Kind   `json:"kind"`
	Key    string `json:"key"`
	Verb   Verb   `json:"verb"`
	// From is where a read asked to be answered from: master, replica or
	// cached. MaxAge is how old the answer may be (0 for master).
	From   string        `json:"from,omitempty"`
	MaxAge time.Duration `json:"max_age,omitempty"`
	// Value is what Write, CAS or Add stores; no two operations of a history
	// have the same, and none is empty. Expect is what CAS wants to find;
	// empty: that the key is absent.
	Value  string `json:"value,omitempty"`
	Expect string `json:"expect,omitempty"`
	// Once: it went with an Idempotency-Key, and was repeated by its client
	// while its outcome was unknown. Tries counts the requests sent.
	Once  bool `json:"once,omitempty"`
	Tries int  `json:"tries,omitempty"`
	// Direct: its client went past the entry, straight to a web node. It counts for
	// safety, and not for availability.
	Direct bool `json:"direct,omitempty"`
	// Final marks the reads of everything after the load.
	Final bool `json:"final,omitempty"`

	// Due is when it was to be sent, Start when it was, End when its outcome
	// was known. What a client waited is End - Due.
	Due   time.Duration `json:"due"`
	Start time.Duration `json:"start"`
	End   time.Duration `json:"end"`

	Outcome Outcome `json:"outcome"`
	// Found says that a read key was there, Matched that a CAS found what it
	// expected and stored its value. Got is a register's value, Number a
	// counter's (after an Increment, or as read), Members a set's.
	Found   bool     `json:"found,omitempty"`
	Matched bool     `json:"matched,omitempty"`
	Got     string   `json:"got,omitempty"`
	Number  int64    `json:"number,omitempty"`
	Members []string `json:"members,omitempty"`
	// Entry is the base URL of the entry that its last request was sent to.
	Entry string `json:"entry,omitempty"`
	// Node is who answered (Holdfast-Node), Status the HTTP status (0: none
	// came), Error what went wrong.
	Node   string `json:"node,omitempty"`
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Allowance is how many operations a fault may cost.
type Allowance string

// The allowances, for what fails and for what is unknown.
const (
	None     Allowance = "none"
	InFlight Allowance = "in flight" // at most those under way at one of the fault's moments
	CutOff   Allowance = "cut off"   // these, any that were sent to one of the fault's Entries, and see Unaware
	Any      Allowance = "any"
)

// Promise is what holds while a fault is there, beyond safety, which always
// has to.
type Promise struct {
	Failed  Allowance `json:"failed"`
	Unknown Allowance `json:"unknown"`
	// Pause is the longest that a client should have to wait. More of it is
	// told and is no verdict: machines differ. 0: nothing is said.
	Pause time.Duration `json:"pause,omitempty"`
	// PauseElsewhere is the same for clients whose own entry is not among the
	// fault's Entries: they have nothing to do with the cut.
	PauseElsewhere time.Duration `json:"pause_elsewhere,omitempty"`
	// Binding: a longer pause misses the promise, and so does whatever Fault.Harm
	// names. It is for faults that are a client's requests: those who send none of
	// them are not to notice.
	Binding bool `json:"binding,omitempty"`
}

// Fault is one thing that was broken.
type Fault struct {
	Name    string   `json:"name"`
	Targets []string `json:"targets,omitempty"` // nodes or hosts
	Promise Promise  `json:"promise"`
	// Anything: nobody knows what it strikes, such as a command of the user's own.
	Anything bool `json:"anything,omitempty"`
	// Entries are the base URLs of the entries that a cut leaves on the wrong
	// side: see CutOff.
	Entries []string `json:"entries,omitempty"`
	// Unaware is for how long after a blow a balancer elsewhere may not have
	// missed what was cut off. What it passes on there before it is undone counts
	// as under way at the blow, if it has no answer, or the balancer's 502 or 504.
	Unaware time.Duration `json:"unaware,omitempty"`
	// Began is when the breaking began, Moments when each single blow fell,
	// Undone when it was undone, Healthy when the stack was well again. A
	// negative time: it was not.
	Began   time.Duration   `json:"began"`
	Moments []time.Duration `json:"moments,omitempty"`
	Undone  time.Duration   `json:"undone"`
	Healthy time.Duration   `json:"healthy"`
	// Evidence says how it is known that the fault really happened; empty: it
	// is not known.
	Evidence string `json:"evidence,omitempty"`
	// Harm is in sentences what it did to others that its promise rules out: a
	// master that works was replaced, a process ended, a new client was not served.
	Harm []string `json:"harm,omitempty"`
	// Wrong is in sentences what the fault itself was answered and must not have been: a
	// request that happened twice, a key that was gone before its time.
	Wrong []string `json:"wrong,omitempty"`
	// Trouble is what went wrong with breaking or undoing; empty: nothing.
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
	// App is the application whose keys the operations are about; empty where
	// they are requests for URLs, which are these: method and URL.
	App  string   `json:"app,omitempty"`
	URLs []string `json:"urls,omitempty"`

	Seed    int64 `json:"seed"`
	Rate    int   `json:"rate"` // operations per second that were asked for
	Clients int   `json:"clients"`
	// LoadEnd is when the last operation of the load was due.
	LoadEnd time.Duration `json:"load_end"`
	// SickBefore and SickAfter say why the stack was not well before the
	// load, and after the last fault; empty: it was.
	SickBefore string `json:"sick_before,omitempty"`
	SickAfter  string `json:"sick_after,omitempty"`
	// Interrupted: the drill was ended before its end.
	Interrupted bool `json:"interrupted,omitempty"`

	Faults     []Fault     `json:"faults"`
	Notices    []Notice    `json:"notices"`
	Operations []Operation `json:"-"` // in the order of End
}

// OfURLs reports whether the load was requests for URLs: of such a history only
// availability and latency can be judged.
func (h History) OfURLs() bool { return len(h.URLs) > 0 }
