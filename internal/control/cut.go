package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"holdfast/internal/host"
	"holdfast/internal/isolate"
)

// CutPath is where a drill cuts a host of several off from the others, below host.AtPath and
// the host's name: POST begins a cut (isolate.Cut), or says with onlyCheck whether it could,
// GET returns how many packets it dropped, DELETE ends it.
const CutPath = "/cut"

// onlyCheck is the query of a POST that changes nothing.
const onlyCheck = "check"

// CutDelay is from the answer until the cut begins: the answer may go to a host that is cut
// off.
const CutDelay = 100 * time.Millisecond

// forgetCut is how long after its end a cut is forgotten that nobody ended.
const forgetCut = time.Minute

// CutHandler cuts this machine off.
func CutHandler() http.Handler {
	c := cuts{begin: isolate.Cut.Begin, ready: isolate.Cut.Ready, end: isolate.End, dropped: isolate.Dropped}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+CutPath, func(w http.ResponseWriter, r *http.Request) {
		var cut isolate.Cut
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&cut); err != nil {
			reply(w, http.StatusBadRequest, problem{Error: "the request is no JSON of a cut: " + err.Error()})
			return
		}
		if r.URL.Query().Has(onlyCheck) {
			answer(w, struct{}{}, c.ready(cut, r.Context()))
			return
		}
		answer(w, struct{}{}, c.plan(r.Context(), cut))
	})
	mux.HandleFunc("GET "+CutPath, func(w http.ResponseWriter, r *http.Request) {
		counts, err := c.counts(r.Context())
		answer(w, counts, err)
	})
	mux.HandleFunc("DELETE "+CutPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, c.over(r.Context()))
	})
	return mux
}

// cuts are the cuts of this machine, one at a time. It is safe for concurrent use.
type cuts struct {
	ready, begin func(isolate.Cut, context.Context) error
	end          func(context.Context) error
	dropped      func(context.Context) (map[string]int, error)

	mu            sync.Mutex
	until         time.Time // when the kernel has ended the cut; zero: there is none
	next, forgets *time.Timer
	failed        error // why the last one could not begin
}

// plan has a cut begin in a moment. A second one is refused while one is under way: it would
// end the first.
func (c *cuts) plan(ctx context.Context, cut isolate.Cut) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := time.Until(c.until); left > 0 {
		return fmt.Errorf("this host is cut off already, for %v more: another drill is under way", left.Round(time.Second/10))
	}
	if err := c.ready(cut, ctx); err != nil {
		return err
	}
	c.stop()
	c.failed, c.until = nil, time.Now().Add(CutDelay+cut.Lasts)
	c.next = time.AfterFunc(CutDelay, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.until.IsZero() {
			c.failed = c.begin(cut, context.Background())
		}
	})
	c.forgets = time.AfterFunc(CutDelay+cut.Lasts+forgetCut, func() { _ = c.over(context.Background()) }) // what is left drops nothing
	return nil
}

// stop ends what is planned.
func (c *cuts) stop() {
	for _, timer := range []*time.Timer{c.next, c.forgets} {
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

// over ends a cut. It is no error when there is none.
func (c *cuts) over(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until.IsZero() {
		return nil
	}
	c.stop()
	if err := c.end(ctx); err != nil {
		return err
	}
	c.until, c.failed = time.Time{}, nil
	return nil
}

// Cut has a host of several cut itself off, in a moment.
func (c *Client) Cut(ctx context.Context, at string, cut isolate.Cut) error {
	body, err := c.send(ctx, cutAt(at), cut)
	if err != nil {
		return err
	}
	return body.Close()
}

// CutReady reports why a host of several cannot cut itself off like that; nil: it can.
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
