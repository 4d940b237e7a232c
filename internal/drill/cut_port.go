package drill

import (
	"context"
	"fmt"
	"net"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/isolate"
	"holdfast/internal/plan"
)

var cutMasterPort = fault{
	name: "cut-master-port", about: "every packet from and to the port of the Redis master is lost for 6 s, and its host is well otherwise: nobody refuses, nobody answers",
	hosts: true, ready: requireCuttable, needs: needFailover, promise: history.Promise{Failed: history.None, Unknown: history.InFlight, Pause: 4 * time.Second},
	inject: func(ctx context.Context, fc *faultContext) error {
		at, err := fc.hostOfMaster(ctx)
		if err != nil {
			return err
		}
		master, err := fc.randomBusyNode(ctx, plan.Redis, "master")
		if err != nil {
			return err
		}
		_, port, err := net.SplitHostPort(master.Address)
		if err != nil {
			return err
		}

		if fc.stack.onUserHosts {
			return fc.cutPortOnUserHost(ctx, at, master.Name, port)
		}
		if err := fc.undo(uncutPortStep(at)); err != nil {
			return err
		}

		fc.say("cutting off the port of %s", master.Name)
		fc.recordInjection(master.Name)

		rules := fmt.Sprintf(`add table inet cut
add chain inet cut in { type filter hook input priority 0; }
add rule inet cut in tcp dport %s counter drop comment "to the master"
add rule inet cut in tcp sport %s counter drop comment "from the master"
add chain inet cut out { type filter hook output priority 0; }
add rule inet cut out tcp sport %s counter drop comment "from the master"
`, port, port, port)
		if _, err := output(ctx, rules, "ip", "netns", "exec", at.netns, "nft", "-f", "-"); err != nil {
			return err
		}

		if err := sleep(ctx, cutLasts); err != nil {
			return err
		}

		text, err := output(ctx, "", "ip", "netns", "exec", at.netns, "nft", "-j", "list", "table", "inet", "cut")
		if err != nil {
			return err
		}
		counts, err := isolate.ParseCounters(text)
		if err != nil {
			return err
		}
		return fc.recordDropped(counts)
	},
}

// uncutPortStep returns the step that lets everything pass again on one host.
func uncutPortStep(at host) step {
	return step{
		Why: "the cut on " + at.name, Command: []string{"ip", "netns", "exec", at.netns, "nft", "-f", "-"},
		Input:  "add table inet cut\ndelete table inet cut\n",
		Unless: netnsDir + "/" + at.netns,
	}
}
