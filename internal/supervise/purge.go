package supervise

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/plan"
)

// The data of a stack of several hosts is removed on all hosts before any host forgets that it
// belongs to the stack. If a host is lost in between, the stack can still be brought up and
// purged again.

// purgeLimit is how long a host may take to remove its data.
const purgeLimit = 5 * time.Minute

// Away returns the hosts that are not reachable, sorted.
func (s *Supervisor) Away(ctx context.Context) (names []string) {
	var mu sync.Mutex
	var asked sync.WaitGroup
	for name, host := range s.hosts.named {
		asked.Go(func() {
			if host.Present(ctx) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			names = append(names, name)
		})
	}
	asked.Wait()
	slices.Sort(names)
	return names
}

// PurgeError is the error of a purge that did not remove all data.
type PurgeError struct {
	// Left has the hosts with remaining data, and the path of the data on each.
	Left map[string]string
	// Done are the hosts whose data was removed.
	Done []string
	err  error
}

func (e *PurgeError) Error() string {
	var left []string
	for _, name := range slices.Sorted(maps.Keys(e.Left)) {
		left = append(left, fmt.Sprintf("on host %s in %s", name, e.Left[name]))
	}
	done := "Nothing else was removed"
	if len(e.Done) > 0 {
		done = "That of " + strings.Join(e.Done, ", ") + " is removed"
	}
	return fmt.Sprintf("the stack is down, and not all of its data is removed: some is left %s (%v). %s, and the hosts are those of one stack still. When all of them can be reached, 'holdfast up -d' at each of them and 'holdfast down --purge' remove the rest",
		strings.Join(left, ", "), e.err, done)
}
func (e *PurgeError) Unwrap() error { return e.err }

// PurgeHosts removes the data of the nodes on all hosts of several. All nodes have to have
// ended (Stop). What makes the hosts part of the stack stays. Its error is a *PurgeError.
func (s *Supervisor) PurgeHosts(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, purgeLimit)
	defer cancel()
	var mu sync.Mutex
	var purging sync.WaitGroup
	failed := &PurgeError{Left: map[string]string{}}
	for name, host := range s.hosts.named {
		purging.Go(func() {
			err := host.purge(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				failed.Done = append(failed.Done, name)
				return
			}
			failed.Left[name], failed.err = host.Path(), err
		})
	}
	purging.Wait()
	if len(failed.Left) == 0 {
		s.log.Info("the data of all hosts is removed")
		return nil
	}
	slices.Sort(failed.Done)
	return failed
}

// purge removes a host's data: that of the nodes, and other data of the stack.
func (h home) purge(ctx context.Context) error {
	names, err := h.Glob(ctx, beforeRestore+"*")
	if err != nil {
		return err
	}
	for _, name := range append(names, "nodes", restoreDir, decidedDir, droppedDir, backupSpool, plan.CertificatesDir, plan.ReleasesDir("")) {
		if err := h.Remove(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
