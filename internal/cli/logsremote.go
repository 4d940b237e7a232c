package cli

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/host"
	"holdfast/internal/logs"
)

// remoteAgain is how long 'logs -f' waits before it asks a silent host again.
const remoteAgain = 2 * time.Second

// remoteLogs are the logs of another host. Only one goroutine may take its lines.
type remoteLogs struct {
	host   string
	follow bool
	end    <-chan struct{} // closed when nobody reads the lines any more

	in   chan control.LogLine // closed after the last line
	err  error                // why the host did not answer at first; set before in has anything
	next logs.Entry
	has  bool
	// reached is true when all lines were taken that the host had at the beginning.
	reached bool
}

// ahead is how many lines are read in advance.
const ahead = 1024

// askOthers begins to read the logs of the other hosts of the stack. It does nothing if there are
// none, or if this host is not up.
func (m *merger) askOthers(ctx context.Context, g *globals) {
	self, notJoined := host.ReadSelf(m.state)
	if notJoined != nil {
		return
	}
	m.self = self.Name
	client := control.NewClient(m.state)
	view, err := client.Hosts(ctx)
	if err != nil {
		m.warn("the logs of the other hosts are missing: this host is not up ('holdfast up' has it take part again)")
		return
	}
	for _, h := range view.Hosts {
		if h.Name == self.Name {
			continue
		}
		r := &remoteLogs{host: h.Name, follow: m.options.follow, end: ctx.Done(), in: make(chan control.LogLine, ahead)}
		m.remotes = append(m.remotes, r)
		q := logs.Query{Name: m.options.name, Lines: m.options.lines, Since: m.options.since}
		go r.read(ctx, client, q)
	}
}

// read reads until the host has sent everything, or ctx ends.
func (r *remoteLogs) read(ctx context.Context, client *control.Client, q logs.Query) {
	defer close(r.in)
	for given := false; ; given = true {
		err := client.Logs(ctx, r.host, q, r.follow, func(line control.LogLine) {
			if !line.Reached {
				q.Since, q.Lines = line.Time.Add(time.Nanosecond), 0 // for the next connection
			}
			given = true
			r.give(line)
		})
		if !given {
			r.err = err
		}
		if !r.follow {
			return
		}
		r.give(control.LogLine{Reached: true}) // so that nobody waits for a host that is away
		if !clock.Sleep(ctx, remoteAgain) {
			return
		}
	}
}

func (r *remoteLogs) give(line control.LogLine) {
	select {
	case r.in <- line:
	case <-r.end:
	}
}

// peek returns the next line without removing it, or false if there is none. It waits for the lines
// that the host had at the beginning, but not for later ones.
func (r *remoteLogs) peek() (e logs.Entry, there bool) {
	for !r.has {
		var line control.LogLine
		open := true
		if r.reached {
			select {
			case line, open = <-r.in:
			default:
				return e, false
			}
		} else {
			select {
			case line, open = <-r.in:
			case <-r.end:
				return e, false
			}
		}
		switch {
		case !open:
			return e, false
		case line.Reached:
			r.reached = r.follow
		default:
			r.next = logs.Entry{Node: line.Node, Time: line.Time, Stamped: line.Stamped, Line: string(line.Line)}
			r.has = true
		}
	}
	return r.next, true
}

// awaitRemotes waits for the first lines of the other hosts, and reports which hosts do not answer.
func (m *merger) awaitRemotes(ctx context.Context) error {
	if m.empty() && m.options.name != "" {
		return ctx.Err() // there is no log of that name anywhere
	}
	for _, r := range m.remotes {
		if r.err != nil && ctx.Err() == nil {
			m.warn(fmt.Sprintf("the logs of host %s are missing: %v", r.host, r.err))
		}
	}
	return ctx.Err()
}

// empty reports whether none of the requested logs exists.
func (m *merger) empty() bool {
	none := m.known == 0
	for _, r := range m.remotes {
		if _, there := r.peek(); there {
			none = false
		}
	}
	return none
}

// endRemotes waits until all readers have ended. The context must have ended.
func (m *merger) endRemotes() {
	for _, r := range m.remotes {
		for range r.in {
		}
	}
}

// take removes the line that peek returns.
func (r *remoteLogs) take() { r.has = false }
