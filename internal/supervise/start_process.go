package supervise

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
)

// startProcess starts a node's process. variables are added to its environment.
func (s *Supervisor) startProcess(p plan.Process, args []string, variables ...string) (machine.Process, error) {
	return s.home(p.Node).Start(s.ctx, machine.Spec{
		Node:    p.Node,
		Program: s.program(p.Node, p.Program),
		Args:    args,
		Env:     slices.Concat(environFor(s.cfg.Environ, p.Program), p.Env, variables),
		Dir:     p.Dir,
		// Redis and Sentinel write their passwords into the files they rewrite.
		Private: p.Kind.Traits().KeepsSecrets,
	})
}

// outputForm is how nodes write their output. It is part of the digest, so that a node which
// was started in another way, and writes into its log itself, is replaced.
const outputForm = "pipe"

// digest returns a digest of the settings that a node's process is started with, including its
// files. If it differs, the process is not the one that the plan wants.
func (s *Supervisor) digest(p plan.Process) string { return digestOf(p, s.files()) }

// digestOf is digest for the files of any plan.
func digestOf(p plan.Process, files []plan.File) string {
	h := sha256.New()
	wanted := []any{p.RestartKey(), outputForm}
	for _, f := range files {
		if !f.Once && strings.HasPrefix(f.Path, filepath.Join("nodes", p.Node)+"/") {
			wanted = append(wanted, f)
		}
	}
	if err := json.NewEncoder(h).Encode(wanted); err != nil {
		panic(err) // a plan is plain data
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// FailedError is the error of a node that keeps dying.
type FailedError struct {
	Node, Detail string
	Log          []string // its last lines
}

// longLine is how many bytes are shown of a line of a node's log.
const longLine = 500

func (e *FailedError) Error() string {
	msg := fmt.Sprintf("%s keeps dying (%s)", e.Node, quote.Cut(e.Detail, longDetail))
	for _, line := range e.Log {
		msg += "\n  " + quote.Cut(line, longLine)
	}
	return msg
}
