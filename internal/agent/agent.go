// Package agent carries the calls of package machine to another host. A Server runs on
// every host of the stack and does what it is told to that host's nodes. A Remote is the
// machine.Machine of another host, for the supervisor that leads.
//
// One connection leads from the leader to each host, and has many streams (yamux). A call
// is an HTTP request on one of them, with JSON in and out. A connection to a node is a
// stream that the host joins to it. The caller makes the connections, over mutual TLS:
// who may call is decided there, and not here.
//
// Every call has the term of the supervisor that makes it. A host that has heard of a
// later term answers no call of an earlier one, so a leader that was replaced without
// knowing it changes nothing any more: see Terms.
package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os/exec"
	"time"

	"github.com/hashicorp/yamux"

	"holdfast/internal/machine"
)

// The protocol. What a later version adds has a name of its own, so that two versions
// understand each other while a stack is upgraded host by host.
const (
	prefix     = "/machine/v1/"
	termHeader = "Holdfast-Term"
	streamName = "holdfast-stream" // what a connection to a node is upgraded to

	maxBody = 64 << 20 // bytes of a call, and of its answer
)

// Limits of time. The manual of nothing says them: they are long for a network of
// machines that stand side by side, and short for a person who waits.
const (
	callLimit     = 10 * time.Second // of a call without a deadline of its own
	connectLimit  = 2 * time.Second  // of a connection to a host
	silentFor     = time.Second      // how long a host that was silent is not asked again
	aliveInterval = time.Second      // between two questions whether the other end is there
	aliveLimit    = 3 * time.Second  // for the answer, and for a write
)

// multiplexing are the settings of a connection at both ends.
func multiplexing() *yamux.Config {
	c := yamux.DefaultConfig()
	c.KeepAliveInterval, c.ConnectionWriteTimeout, c.StreamOpenTimeout = aliveInterval, aliveLimit, aliveLimit
	c.StreamCloseTimeout, c.MaxStreamWindowSize = 30*time.Second, 1<<20
	c.LogOutput, c.Logger = nil, log.New(io.Discard, "", 0) // an end is told by its errors
	return c
}

// reply is the answer to a call.
type reply struct {
	Out   json.RawMessage `json:"out,omitempty"`
	Error *fault          `json:"error,omitempty"`
}

// fault is an error on its way between hosts.
type fault struct {
	Text string `json:"text"`
	// Known names the error that its receiver has to recognise; empty: none of them.
	Known string `json:"known,omitempty"`
}

// ErrDeposed says that a host has heard of a later term than the caller's: another
// supervisor leads.
var ErrDeposed = errors.New("another supervisor leads the stack now")

// knownErrors are those that are the same at the other end.
var knownErrors = map[string]error{
	"not-exist":  fs.ErrNotExist,
	"permission": fs.ErrPermission,
	"gone":       machine.ErrGone,
	"room":       machine.ErrNoRoom,
	"refused":    machine.ErrRefused,
	"taken":      machine.ErrTaken,
	"program":    exec.ErrNotFound,
	"deposed":    ErrDeposed,
}

// faultOf is an error as it is sent; nil: there is none.
func faultOf(err error) *fault {
	if err == nil {
		return nil
	}
	f := &fault{Text: err.Error()}
	for name, known := range knownErrors {
		if errors.Is(err, known) {
			f.Known = name
		}
	}
	return f
}

// err is an error as it was received.
func (f *fault) err() error {
	if known := knownErrors[f.Known]; known != nil {
		return &sentError{f.Text, known}
	}
	return errors.New(f.Text)
}

// sentError is an error of another host that is also one of those that are known here.
type sentError struct {
	text  string
	known error
}

func (e *sentError) Error() string { return e.text }
func (e *sentError) Unwrap() error { return e.known }

// answer writes the answer to a call.
func answer(w http.ResponseWriter, out any, err error) {
	r := reply{Error: faultOf(err)}
	if err == nil {
		if r.Out, err = json.Marshal(out); err != nil {
			r.Error = faultOf(fmt.Errorf("write the answer: %w", err))
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(r) // whoever asked is gone
}

// What calls carry.
type (
	nothing struct{}
	named   struct {
		Name string `json:"name"`
	}
	outside struct {
		Path    string   `json:"path"`
		Known   string   `json:"known"`
		Endings []string `json:"endings"`
	}
	renamed struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	address struct {
		Network string `json:"network,omitempty"`
		Address string `json:"address"`
	}
	program struct {
		Path string   `json:"path"`
		Args []string `json:"args"`
	}
	signal struct {
		ID     machine.ID `json:"id"`
		Number int        `json:"number"`
		Group  bool       `json:"group"`
	}
	tail struct {
		Node  string    `json:"node"`
		Since time.Time `json:"since"`
	}
	ended struct {
		Exit string `json:"exit"`
	}
)
