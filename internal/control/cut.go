package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"holdfast/internal/host"
	"holdfast/internal/isolate"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// CutPath is the path by which a drill cuts a host of several off from the others, below
// host.AtPath and the host's name. POST begins a cut (isolate.Cut), or with onlyCheck only
// checks whether it could begin. GET returns how many packets the cut has dropped. DELETE ends
// it.
const CutPath = "/cut"

// onlyCheck is the query parameter of a POST that changes nothing.
const onlyCheck = "check"

// CutDelay is the time between the answer and the beginning of the cut. It lets the answer
// reach a host from which this one is about to be cut off.
const CutDelay = 100 * time.Millisecond

// forgetCut is how long the counters of a cut are kept after its time if it was not ended
// before.
const forgetCut = time.Minute

// CutHandler returns the handler of CutPath. It cuts this machine, the host of a state
// directory, off from other hosts of its stack.
func CutHandler(state string) http.Handler {
	n := isolate.NewNetwork(state)
	c := cuts{beginCut: n.Begin, ready: n.Ready, endCut: n.End, dropped: n.Dropped}
	mux := http.NewServeMux()

	mux.HandleFunc("POST "+CutPath, func(w http.ResponseWriter, r *http.Request) {
		var cut isolate.Cut
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&cut); err != nil {
			writeJSON(w, http.StatusBadRequest, errorBody{Error: "the request is no JSON of a cut: " + err.Error()})
			return
		}
		runs, unread := supervise.ReadRunsAs(state)
		s, unparsed := runs.Stack()
		err := errors.Join(unread, unparsed)
		if err == nil {
			err = checkCut(runs.Plan(), s.Entry.Virtual.Bare(), cut)
		}
		switch {
		case err != nil:
		case r.URL.Query().Has(onlyCheck):
			err = c.ready(r.Context(), cut)
		default:
			err = c.schedule(r.Context(), cut)
		}
		writeResult(w, struct{}{}, err)
	})

	mux.HandleFunc("GET "+CutPath, func(w http.ResponseWriter, r *http.Request) {
		counts, err := c.counts(r.Context())
		writeResult(w, counts, err)
	})

	mux.HandleFunc("DELETE "+CutPath, func(w http.ResponseWriter, r *http.Request) {
		writeResult(w, struct{}{}, c.end(r.Context()))
	})
	return mux
}

// checkCut returns an error if a cut affects anything that is not the stack's, such as an
// operator's ssh.
func checkCut(p plan.Plan, virtual []string, c isolate.Cut) error {
	var hosts []netip.Addr
	ports := map[uint16]bool{}

	know := func(address string) {
		if _, port, err := net.SplitHostPort(address); err == nil {
			if n, err := strconv.ParseUint(port, 10, 16); err == nil {
				ports[uint16(n)] = true
			}
		}
	}

	if u, err := url.Parse(p.EntryURL); err == nil {
		know(u.Host)
	}
	for _, h := range p.Hosts {
		if a, err := netip.ParseAddr(h.Address); err == nil {
			hosts = append(hosts, a)
		}
		for _, process := range h.Processes {
			know(process.Address)
		}
	}

	for _, a := range slices.Concat(c.From, c.To) {
		if !slices.Contains(hosts, a) {
			return fmt.Errorf("%s is no host of the stack", a)
		}
	}
	for _, a := range c.Virtual {
		if !slices.Contains(virtual, a.String()) {
			return fmt.Errorf("%s is no virtual address of the stack", a)
		}
	}
	for _, port := range slices.Concat(c.Ports, []uint16{c.Spared}) {
		if port != 0 && !ports[port] {
			return fmt.Errorf("no node of the stack has port %d", port)
		}
	}
	return nil
}

// cuts carries out the cuts of this machine, one at a time. It is safe for concurrent use.
type cuts struct {
	ready, beginCut func(context.Context, isolate.Cut) error
	endCut          func(context.Context) error
	dropped         func(context.Context) (map[string]int, error)

	mu             sync.Mutex
	until          time.Time // when the kernel ends the cut; zero if there is no cut
	begins, forget *time.Timer
	failed         error // why the last cut could not begin
}

// schedule begins a cut after CutDelay. It returns an error while another cut is under way,
// which the new one would end.
func (c *cuts) schedule(ctx context.Context, cut isolate.Cut) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := time.Until(c.until); left > 0 {
		return fmt.Errorf("this host is cut off already, for %v more: another drill is under way", left.Round(time.Second/10))
	}
	if err := c.ready(ctx, cut); err != nil {
		return err
	}
	c.stop()
	c.failed, c.until = nil, time.Now().Add(CutDelay+cut.Lasts)
	c.begins = time.AfterFunc(CutDelay, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.until.IsZero() {
			c.failed = c.beginCut(context.Background(), cut)
		}
	})
	c.forget = time.AfterFunc(CutDelay+cut.Lasts+forgetCut, func() { _ = c.end(context.Background()) }) // after an error, rules are left that drop nothing any more
	return nil
}

// stop stops the timers.
func (c *cuts) stop() {
	for _, timer := range []*time.Timer{c.begins, c.forget} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// counts returns how many packets the last cut has dropped, by direction, or why it did not
// begin.
func (c *cuts) counts(ctx context.Context) (map[string]int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.failed != nil:
		return nil, c.failed
	case c.until.IsZero():
		return nil, nil
	}
	return c.dropped(ctx)
}

// end ends the cut, also one that an earlier process has begun. Without a cut it does nothing.
func (c *cuts) end(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop()
	if err := c.endCut(ctx); err != nil {
		return err
	}
	c.until, c.failed = time.Time{}, nil
	return nil
}

// Cut makes a host of several cut itself off, after CutDelay.
func (c *Client) Cut(ctx context.Context, at string, cut isolate.Cut) error {
	body, err := c.send(ctx, cutAt(at), cut)
	if err != nil {
		return err
	}
	return body.Close()
}

// CutReady returns why a host of several cannot cut itself off like that, or nil if it can.
func (c *Client) CutReady(ctx context.Context, at string, cut isolate.Cut) error {
	body, err := c.send(ctx, cutAt(at)+"?"+onlyCheck, cut)
	if err != nil {
		return err
	}
	return body.Close()
}

// Uncut ends the cut of a host.
func (c *Client) Uncut(ctx context.Context, at string) error {
	body, err := c.do(ctx, http.MethodDelete, cutAt(at))
	if err != nil {
		return err
	}
	return body.Close()
}

// CutOff returns how many packets the last cut of a host has dropped, by direction.
func (c *Client) CutOff(ctx context.Context, at string) (counts map[string]int, err error) {
	body, err := c.do(ctx, http.MethodGet, cutAt(at))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return counts, json.NewDecoder(body).Decode(&counts)
}

func cutAt(name string) string { return host.AtPath + url.PathEscape(name) + CutPath }
