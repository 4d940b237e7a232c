package drill

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"holdfast/internal/control"
	"holdfast/internal/isolate"
	"holdfast/internal/quote"
)

// Cuts between a user's own hosts. The holdfast process of a host drops packets there. The kernel
// of that host ends the cut after its time (package isolate), because a host that is cut off cannot
// be told to.

// errHere is the error of a fault that would cut off the host on which the drill runs.
var errHere = errors.New("this is the host whose network would be cut, and the clients of the drill are on it; run the drill at another host")

// requireCuttable returns an error if one of a user's hosts cannot be cut off.
func requireCuttable(ctx context.Context, fc *faultContext) error {
	if !fc.stack.onUserHosts {
		return nil
	}
	for _, one := range fc.stack.userHosts.all {
		asking, cancel := context.WithTimeout(ctx, callLimit)
		err := fc.stack.processes.client.CutReady(asking, one.name, isolate.Cut{Ports: []uint16{uint16(fc.stack.userHosts.entryPort)}, Lasts: cutLasts})
		cancel()
		if err != nil {
			return fmt.Errorf("host %s: %w", one.name, err)
		}
	}
	return nil
}

// cutsAt returns what each target, by the host's name, has to drop. If the clients are a side of
// the cut, the target drops what anybody sends to its entry.
func (s *supervisedStack) cutsAt(targets []host, drops []drop, lasts time.Duration) map[string]isolate.Cut {
	cuts := map[string]isolate.Cut{}
	for _, one := range targets {
		c := isolate.Cut{Lasts: lasts, Spared: uint16(s.userHosts.entryPort)}
		for _, d := range drops {
			switch {
			case d.from == clients && d.to == one.name, d.from == one.name && d.to == clients:
				c.Spared, c.Ports = 0, []uint16{uint16(s.userHosts.entryPort)}
				c.Virtual = s.virtualIPv4()
			case d.from == one.name:
				c.To = append(c.To, s.userHosts.named(d.to).address)
			case d.to == one.name:
				c.From = append(c.From, s.userHosts.named(d.from).address)
			}
		}
		cuts[one.name] = c
	}
	return cuts
}

// virtualIPv4 returns the virtual addresses that a cut can hide. An IPv6 address cannot be hidden:
// other machines keep it until another host announces it.
func (s *supervisedStack) virtualIPv4() (all []netip.Addr) {
	for _, address := range s.spec.Entry.Virtual.Bare() {
		if a, err := netip.ParseAddr(address); err == nil && a.Is4() {
			all = append(all, a)
		}
	}
	return all
}

// cutPortOnUserHost cuts off the master's port on a user's host.
func (fc *faultContext) cutPortOnUserHost(ctx context.Context, at host, master, port string) error {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	cuts := map[string]isolate.Cut{at.name: {Ports: []uint16{uint16(number)}, Inside: true, Lasts: cutLasts}}
	return fc.cutUserHosts(ctx, "off the port of "+master, cuts, cutLasts, master)
}

// cutUserHosts makes hosts cut themselves off for a time, and returns when that is over. The
// injection is recorded for the targets before the first host is asked. The cut itself begins
// control.CutDelay after that host has answered.
func (fc *faultContext) cutUserHosts(ctx context.Context, what string, cuts map[string]isolate.Cut, d time.Duration, targets ...string) error {
	fc.say("cutting %s", what)
	fc.recordInjection(targets...)
	client := fc.stack.processes.client
	for name, cut := range cuts {
		by := cutUndo{By: fc.stack.processes.state, Host: name, Until: time.Now().Add(callLimit + control.CutDelay + d)}
		if err := fc.undo(step{Why: "the cut on " + name, Uncut: &by}); err != nil {
			return err
		}
		asking, cancel := context.WithTimeout(ctx, callLimit)
		err := client.Cut(asking, name, cut)
		cancel()
		if err != nil {
			return fmt.Errorf("host %s: %w", name, err)
		}
	}
	if err := sleep(ctx, control.CutDelay+d); err != nil {
		return err
	}
	dropped := map[string]int{}
	for name := range cuts {
		var counts map[string]int
		var err error
		// TCP sends again what was lost, at growing intervals, so the answer may be late.
		late := awaitEvery(ctx, askEvery, "", aroundCut, func() bool {
			asking, cancel := context.WithTimeout(ctx, callLimit/3)
			defer cancel()
			counts, err = client.CutOff(asking, name)
			return err == nil
		})
		if late != nil {
			return fmt.Errorf("host %s does not say what its cut dropped: %w", name, errors.Join(err, ctx.Err()))
		}
		for direction, n := range counts {
			dropped[name+" "+quote.Text(direction)] += n
		}
	}
	return fc.recordDropped(dropped)
}

// cutUndo ends the cut of a user's host, through the holdfast process of this host.
type cutUndo struct {
	By    string    `json:"by"` // the state directory of this host
	Host  string    `json:"host"`
	Until time.Time `json:"until"` // when the host ends the cut by itself
}

// perform ends the cut, or else waits until the host has ended it.
func (u cutUndo) perform() error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	if err := processesOf(u.By).client.Uncut(ctx, u.Host); err != nil {
		time.Sleep(time.Until(u.Until))
	}
	return nil
}
