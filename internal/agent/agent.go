// Package agent carries the calls of machine.Machine to another host. A Server runs on every
// host of the stack and carries out calls on that host's nodes (server.go). A Remote is the
// machine.Machine of another host, for the supervisor of the leader (remote.go, process.go,
// stream.go).
//
// The leader has one connection to each host, with many streams on it (yamux). A call is an
// HTTP request on a stream, with JSON in both directions. A connection to a node is a stream
// that the host connects to the node. The caller makes the connections, over mutual TLS; it
// also decides who may call, which is not checked here.
//
// Every call has the term of the leader that makes it. A host that has heard of a later term
// refuses calls of earlier ones. So a leader that was replaced, and does not know it, cannot
// change anything any more: see Terms.
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

// The protocol. A later version must give new names to what it adds, so that two versions can
// work together while a stack is upgraded host by host.
const (
	prefix     = "/machine/v1/"
	termHeader = "Holdfast-Term"
	streamName = "holdfast-stream" // the protocol that a connection to a node is upgraded to

	maxBody = 64 << 20 // bytes of a call, and of its answer
)

// Time limits. They come from no manual: they are long for a network of neighbouring machines,
// and short for a person who waits.
const (
	callLimit     = 10 * time.Second // for a call without a deadline of its own
	connectLimit  = 2 * time.Second  // for connecting to a host
	silentFor     = time.Second      // how long no new connection is tried after one timed out
	aliveInterval = time.Second      // between two keep-alive messages
	aliveLimit    = 3 * time.Second  // for the answer to one, and for a write
)

// multiplexing returns the settings of a connection, for both of its ends.
func multiplexing() *yamux.Config {
	c := yamux.DefaultConfig()
	c.KeepAliveInterval, c.ConnectionWriteTimeout, c.StreamOpenTimeout = aliveInterval, aliveLimit, aliveLimit
	c.StreamCloseTimeout, c.MaxStreamWindowSize = 30*time.Second, 1<<20
	c.LogOutput, c.Logger = nil, log.New(io.Discard, "", 0) // the errors of its methods are enough
	return c
}

// reply is the answer to a call.
type reply struct {
	Out   json.RawMessage `json:"out,omitempty"`
	Error *fault          `json:"error,omitempty"`
}

// fault is an error in the form that is sent between hosts.
type fault struct {
	Text string `json:"text"`
	// Known is a name in knownErrors if the error is one of those, or else empty.
	Known string `json:"known,omitempty"`
}

// ErrDeposed means that a host has heard of a later term than the caller's: another
// supervisor leads.
var ErrDeposed = errors.New("another supervisor leads the stack now")

// knownErrors are the errors that the other end can recognize with errors.Is, by the names
// under which they are sent.
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

// faultOf returns an error in the form that is sent, or nil for a nil error.
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

// err returns a received error.
func (f *fault) err() error {
	if known := knownErrors[f.Known]; known != nil {
		return &sentError{f.Text, known}
	}
	return errors.New(f.Text)
}

// sentError is an error of another host that is one of knownErrors.
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
	_ = json.NewEncoder(w).Encode(r) // an error means that the caller is gone
}

// The arguments and results of calls.
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
