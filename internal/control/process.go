package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/haproxy"
	"holdfast/internal/host"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/supervise"
)

// This file is what a drill does to the nodes of a host of several. The process of that host
// carries it out, and only for the nodes of its own state directory.

// ProcessPath is the path for signals to a node's process, and BalancerPath that for the
// statistics of a balancer. Both are below host.AtPath and the host's name.
const (
	ProcessPath  = "/process"
	BalancerPath = "/balancer/"
)

// DrilledPath is the path at which a host returns whether a drill of the stack is under way
// there, as true or false.
const DrilledPath = "/drilled"

// DrilledHandler returns the handler of DrilledPath, for a state directory.
func DrilledHandler(state string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, theStack := supervise.Drilled(state)
		writeResult(w, theStack, nil)
	})
}

// DrilledAt returns the name of another host at which a drill of the stack is under way, or "".
// It skips hosts that do not answer.
func (c *Client) DrilledAt(ctx context.Context) (name string, err error) {
	v, err := c.Hosts(ctx)
	if err != nil {
		return "", err
	}
	for _, s := range v.Hosts {
		if s.Name == v.Here || !s.Reachable {
			continue
		}
		body, err := c.do(ctx, http.MethodGet, host.AtPath+url.PathEscape(s.Name)+DrilledPath)
		if err != nil {
			continue // it has just gone, or its version of Holdfast does not know this path
		}
		drilled := false
		err = json.NewDecoder(body).Decode(&drilled)
		body.Close()
		if err == nil && drilled {
			return s.Name, nil
		}
	}
	return "", nil
}

// ProcessCall is a request about the process of a node.
type ProcessCall struct {
	// PID is a process to identify. If it is 0, the request is about the process ID.
	PID int        `json:"pid,omitempty"`
	ID  process.ID `json:"id,omitzero"`
	// Signal is sent to the process group, unless it is 0.
	Signal syscall.Signal `json:"signal,omitempty"`
}

// ProcessState is the answer to a ProcessCall.
type ProcessState struct {
	ID      process.ID `json:"id"`
	Alive   bool       `json:"alive"`
	Stopped bool       `json:"stopped"`
}

// StoppedLimit is the longest time for which a node stays stopped by a ProcessCall. Then it is
// continued, because the drill that should do so may be cut off or dead.
const StoppedLimit = 30 * time.Second

// ProcessHandler returns the handler of ProcessPath, for the nodes of a state directory.
func ProcessHandler(state string) http.Handler {
	var standing pauses
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var call ProcessCall
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&call); err != nil {
			writeJSON(w, http.StatusBadRequest, errorBody{Error: "the request is no JSON of a process: " + err.Error()})
			return
		}
		now, err := signalProcess(state, &standing, call)
		writeResult(w, now, err)
	})
}

func signalProcess(state string, standing *pauses, call ProcessCall) (now ProcessState, err error) {
	nodes, err := supervise.NodeProcesses(state)
	if err != nil {
		return now, err
	}

	if call.PID != 0 {
		call.ID, err = process.Identify(call.PID)
		if err != nil {
			return ProcessState{}, nil // it has ended
		}
	}

	if !nodes[call.ID] {
		if call.Signal == 0 || !process.Alive(call.ID) {
			return ProcessState{ID: call.ID}, nil // it is not a node any more
		}
		return now, fmt.Errorf("process %d is no node of this host", call.ID.PID)
	}

	switch call.Signal {
	case 0:
	case syscall.SIGKILL, syscall.SIGCONT, syscall.SIGSTOP:
		standing.end(call.ID)
		if call.Signal == syscall.SIGSTOP {
			standing.begin(call.ID, func() { _ = process.Signal(call.ID, syscall.SIGCONT, true) }) // the process may have ended
		}
		if err := process.Signal(call.ID, call.Signal, true); err != nil && !errors.Is(err, process.ErrGone) {
			return now, err
		}
	default:
		return now, fmt.Errorf("no drill sends signal %d", call.Signal)
	}
	return ProcessState{ID: call.ID, Alive: process.Alive(call.ID), Stopped: process.Stopped(call.ID)}, nil
}

// pauses has a timer for each node that is stopped. The zero value is ready for use. It is safe
// for concurrent use.
type pauses struct {
	mu   sync.Mutex
	ends map[process.ID]*time.Timer
}

// begin calls goOn after StoppedLimit, unless end is called for the node before.
func (p *pauses) begin(id process.ID, goOn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ends == nil {
		p.ends = map[process.ID]*time.Timer{}
	}
	var timer *time.Timer
	timer = time.AfterFunc(StoppedLimit, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.ends[id] == timer { // otherwise end was called just before
			delete(p.ends, id)
			goOn()
		}
	})
	p.ends[id] = timer
}

// end stops the timer of a node that is continued or killed, so that the timer cannot cut a
// later pause of the node short.
func (p *pauses) end(id process.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if timer := p.ends[id]; timer != nil {
		timer.Stop()
		delete(p.ends, id)
	}
}

// Process sends a request about the process of a node to a host of several.
func (c *Client) Process(ctx context.Context, at string, call ProcessCall) (now ProcessState, err error) {
	body, err := c.send(ctx, host.AtPath+url.PathEscape(at)+ProcessPath, call)
	if err != nil {
		return now, err
	}
	defer body.Close()
	return now, json.NewDecoder(body).Decode(&now)
}

// BalancerHandler returns the handler of BalancerPath, for the balancers of a state directory.
func BalancerHandler(state string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		node := r.PathValue("node")
		if node != filepath.Base(node) || strings.HasPrefix(node, ".") {
			writeJSON(w, http.StatusBadRequest, errorBody{Error: "this is no name of a node"})
			return
		}
		rows, err := haproxy.NewClient(filepath.Join(state, "nodes", node, plan.BalancerSocket)).Stat(r.Context())
		writeResult(w, rows, err)
	})
}

// BalancerStat returns the statistics of a balancer on a host of several.
func (c *Client) BalancerStat(ctx context.Context, at, node string) (rows []haproxy.Stat, err error) {
	body, err := c.do(ctx, http.MethodGet, host.AtPath+url.PathEscape(at)+BalancerPath+url.PathEscape(node))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return rows, json.NewDecoder(io.LimitReader(body, 16<<20)).Decode(&rows)
}
