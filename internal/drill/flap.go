package drill

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/history"
)

var flap = fault{
	name: "flap", about: "the cable of the master's host is unplugged and plugged in again every 0.3 to 1 s, for 6 s",
	// A packet that is lost every time is sent again 0.2, 0.6, 1.4, 3, 6.2 and 12.6 s after the
	// first time (RFC 6298): its last chance may come late.
	hosts: true, needs: needFailover, promise: history.Promise{Failed: history.InFlight, Unknown: history.InFlight, Pause: 13 * time.Second},
	inject: func(ctx context.Context, fc *faultContext) error {
		one, err := fc.masterHost(ctx)
		if err != nil {
			return err
		}

		h := fc.stack.hosts
		const lasts, shortest, longest = cutLasts, 300 * time.Millisecond, time.Second
		if err := fc.undo(h.plugInStep(one)); err != nil {
			return err
		}

		fc.recordCutOff(ctx, one)
		before, err := h.carrierChanges(ctx, one)
		if err != nil {
			return err
		}

		fc.say("the link of %s flaps", one.name)
		for up, end := false, time.Now().Add(lasts); time.Now().Before(end); up = !up {
			state := "down"
			if up {
				state = "up"
			}
			fc.recordInjection(one.name)
			if err := ip(ctx, h.bridge, "link set "+one.port+" "+state); err != nil {
				return err
			}
			d := shortest + time.Duration(fc.random.Int64N(int64(longest-shortest)))
			if err := sleep(ctx, d); err != nil {
				return err
			}
		}

		after, err := h.carrierChanges(ctx, one)
		if err != nil {
			return err
		}
		if after == before {
			return fmt.Errorf("the link of %s did not change", one.name)
		}
		fc.evidence("%s lost or found its link %d times", one.name, after-before)
		return nil
	},
}

// plugInStep returns the step that connects a host's cable at the bridge again.
func (h *hosts) plugInStep(one host) step {
	return step{
		Why:     "the link of " + one.name,
		Command: []string{"ip", "-netns", h.bridge, "link", "set", one.port, "up"}, Unless: netnsDir + "/" + h.bridge,
	}
}

// carrierChanges returns how often the host's end of its cable has lost or found the other end.
func (h *hosts) carrierChanges(ctx context.Context, one host) (int, error) {
	out, err := output(ctx, "", "ip", "netns", "exec", one.netns, "cat", "/sys/class/net/"+hostLink+"/carrier_changes")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}
