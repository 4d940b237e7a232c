package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/host"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// A stack that runs on one machine becomes a stack of several hosts while it serves. 'holdfast
// apply' begins that: the nodes listen at the machine's address, where the other hosts can reach
// them, and the supervisor becomes the process of the first host. Then the other hosts join, and
// the next 'holdfast apply' gives them their nodes.

// needsConversion reports whether a stack whose file has hosts runs on this machine alone.
func needsConversion(s stack.Stack, state string) bool {
	return len(s.Hosts) > 0 && !isJoined(state) && supervise.Locked(state) && !host.Claimed(state)
}

// convertToHosts makes the machine the first host of its stack. as is the name of that host; empty:
// the host whose address the machine has.
func convertToHosts(ctx context.Context, g *globals, s stack.Stack, base, state, as string, flags changeFlags, stdout, stderr io.Writer) error {
	if s.Encrypts() {
		return supervise.ErrPlainSoFar
	}

	here, err := whichHost(s, as)
	if err != nil {
		return err
	}

	start := &hostStart{state: state, stack: s, base: base, file: true, self: host.Self{
		Stack: s.Name, Name: here.Name, Address: netip.AddrPortFrom(netip.MustParseAddr(here.Address), host.Port),
	}}
	if err := start.checkPlace(g); err != nil {
		return err
	}

	fmt.Fprintf(stderr, "The stack %s runs on this machine alone. This makes it host %s of several: its nodes move to %s, where other hosts reach them, one after the other while the stack serves.\n\n", s.Name, here.Name, here.Address)
	client := control.NewClient(state)
	req := supervise.Request{Kind: "apply", File: string(s.OnlyOn(here).Show()), BaseDir: base}
	if err := change(ctx, g, s.Name, client, req, flags, stdout, stderr); err != nil || flags.plan {
		return err
	}

	request := control.InitRequest{Name: here.Name, Address: start.self.Address, Others: start.others()}
	// A supervisor that has ended may not have sent its answer.
	if err := client.InitHosts(ctx, request); err != nil && !errors.Is(err, control.ErrNoSupervisor) {
		return changeError(s.Name, olderSupervisor(ctx, client, err))
	}

	v, err := awaitConverted(ctx, client, state)
	if err != nil {
		return err
	}

	text := fmt.Sprintf("This machine is host %s of the stack %s now.", here.Name, s.Name)
	if absent := notJoined(s, v); len(absent) > 0 {
		text += " " + howToJoin(absent) + ". When all have joined, 'holdfast apply' gives them their nodes."
	}

	_, err = fmt.Fprintln(stdout, g.renderMessage(text))
	return err
}

// awaitConverted waits until the machine is the leading host, and its supervisor has taken over the
// nodes.
func awaitConverted(ctx context.Context, client *control.Client, state string) (v host.View, err error) {
	const absent = 15 * time.Second // if nothing has run for so long, it has not begun
	seen := time.Now()
	for began := time.Now(); time.Since(began) < takeOverLimit && time.Since(seen) < absent; {
		if supervise.Locked(state) || host.Claimed(state) {
			seen = time.Now()
		}
		var st supervise.Status
		if v, err = client.Hosts(ctx); err == nil {
			if st, err = client.Status(ctx); err == nil && st.Phase == supervise.PhaseRunning {
				return v, nil
			}
		}
		if !clock.Sleep(ctx, drawEvery) {
			return v, errors.New("interrupted: the machine goes on becoming a host; see 'holdfast host list'")
		}
	}
	if err == nil {
		err = errors.New("its supervisor does not look after all nodes yet")
	}
	return v, fmt.Errorf("the machine is no host that leads, and the nodes run on; 'holdfast logs supervisor' may say why, and 'holdfast up -d' tries again: %w", err)
}

// others returns the hosts that the stack is to have besides this one.
func (h *hostStart) others() (planned []host.Planned) {
	for _, other := range h.stack.Hosts {
		if other.Name != h.self.Name {
			planned = append(planned, host.Planned{Name: other.Name, Address: netip.MustParseAddr(other.Address)})
		}
	}
	return planned
}

// initFirstHost makes the machine the first host of its stack, and restarts this program as the
// process of that host. It returns only if that fails.
func initFirstHost(state, stackName string, f control.InitRequest) error {
	release, err := claimHost(state)
	if err != nil {
		return err
	}
	err = host.InitFirst(state, stackName, f.Name, f.Address, time.Now(), f.Others...)
	release()
	if err != nil {
		return fmt.Errorf("the machine does not become host %s, and the nodes run on: %w", f.Name, err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}
	return (&handOverError{program: self, args: os.Args[1:]}).run()
}
