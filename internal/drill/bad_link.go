package drill

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
	"holdfast/internal/redis"
	"holdfast/internal/supervise"
)

var slowLink = fault{
	name: "slow-link", about: "the link between the master and one replica is 300 ms long each way, for 4 s: the replica leaves the in-sync set, and nobody reads old values from it",
	course: true, promise: history.Promise{Failed: history.None, Unknown: history.None, Pause: 2500 * time.Millisecond},
	strike: badLink(300*time.Millisecond, 0, 0),
}

var lossyLink = fault{
	name: "lossy-link", about: "the link between the master and one replica loses a tenth of what goes over it, for 4 s",
	promise: history.Promise{Failed: history.None, Unknown: history.None, Pause: 2500 * time.Millisecond},
	strike:  badLink(5*time.Millisecond, 0.1, 200*time.Millisecond),
}

// badLinkLasts is how long a link stays bad.
const badLinkLasts = 4 * time.Second

// badLink has a replica follow its master through a proxy. Sentinel puts a
// replica that follows another address straight after failover-timeout
// (sentinelRefreshInstanceInfo in Redis 7.0): it is led astray again then.
func badLink(delay time.Duration, loss float64, stall time.Duration) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		master, err := s.pick(ctx, plan.Redis, "master")
		if err != nil {
			return err
		}
		replica, err := s.pick(ctx, plan.Redis, "replica")
		if err != nil {
			return err
		}
		l, err := newLink(master.Address, delay, loss, stall, s.random.Uint64())
		if err != nil {
			return err
		}
		defer l.close()
		if err := s.undo(step{Why: "the bad link of " + replica.Name, Follow: &follow{
			State: s.stack.state, Stack: s.stack.stack.Name, Node: replica.Address, Leave: l.address(), Sentinels: s.stack.addresses(ctx, plan.Sentinel), Master: master.Address,
		}}); err != nil {
			return err
		}
		s.say("making the link of %s bad", replica.Name)
		s.blow(replica.Name)
		admin := s.stack.admins[replica.Name]
		if err := admin.Follow(ctx, l.address()); err != nil {
			return err
		}
		for until := time.Now().Add(badLinkLasts); time.Now().Before(until); {
			standing, err := s.stack.standing(ctx, replica.Name)
			if err == nil && !standing.Master && standing.MasterAddress == master.Address {
				if err := admin.Follow(ctx, l.address()); err != nil {
					return err
				}
			}
			if err := s.last(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
		if n := l.passed(); n > 0 {
			s.evidence("%d bytes between %s and %s went over the bad link", n, master.Name, replica.Name)
		}
		return nil
	}
}

// addresses are where the nodes of a kind listen.
func (t *target) addresses(ctx context.Context, kind plan.Kind) []string {
	var all []string
	st, err := t.status(ctx)
	if err != nil {
		return nil
	}
	for _, n := range st.Nodes {
		if n.Kind == kind {
			all = append(all, n.Address)
		}
	}
	return all
}

// follow has a replica follow the master again.
type follow struct {
	State string `json:"state"` // of the stack: for its secrets
	Stack string `json:"stack"`
	Node  string `json:"node"` // address of the replica
	// Leave is the address that it follows now; when it follows another one,
	// there is nothing to do.
	Leave     string   `json:"leave"`
	Sentinels []string `json:"sentinels"`
	Master    string   `json:"master"` // if no Sentinel says otherwise
}

func (f follow) perform() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	secrets, err := supervise.Secrets(f.State)
	if err != nil {
		return err
	}
	node := redis.NewAdmin(f.Node, "operator", secrets.Operator)
	defer node.Close()
	now, err := node.Standing(ctx)
	if err != nil {
		return nil // it is down; who starts it says whom it follows
	}
	if now.Master || now.MasterAddress != f.Leave {
		return nil
	}
	master := f.Master
	for _, address := range f.Sentinels {
		sentinel := redis.NewAdmin(address, "operator", secrets.Operator)
		v, err := sentinel.View(ctx, f.Stack)
		sentinel.Close()
		if err == nil {
			master = v.Address
			break
		}
	}
	if err := node.Follow(ctx, master); err != nil {
		return fmt.Errorf("have %s follow %s again: %w", f.Node, master, err)
	}
	return nil
}
