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
	course: true, promise: history.Promise{Failed: history.None, Unknown: history.None, Pause: 2500 * time.Millisecond},
	strike: badLink(5*time.Millisecond, 0.1, 200*time.Millisecond),
}

var killStalled = fault{
	name: "kill-stalled-master", about: "nothing that the master sends reaches a replica for 0.6 s, and then the master is killed: what it alone has must not have been acknowledged, nor read",
	double: true, course: true, promise: history.Promise{Failed: history.None, Unknown: history.InFlight, Pause: 5 * time.Second},
	strike: killingStalled(600 * time.Millisecond),
}

// A web node waits for silent replicas for down-after and 0.4 s. From then on
// it answers reads, and no writes, as long as most Sentinels stand by the
// master: a read may show what no replica has.
var killLone = fault{
	name: "kill-lone-master", about: "the same after 2 s, when reads are answered from the master alone: those may show writes that were never acknowledged, and are lost with it (docs/guarantees.md, two faults at once)",
	double: true, promise: history.Promise{Failed: history.None, Unknown: history.InFlight, Pause: 6 * time.Second},
	strike: killingStalled(2 * time.Second),
}

// killingStalled lets nothing pass from the master to its replicas for a time,
// and then kills the master.
func killingStalled(d time.Duration) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		master, err := s.pick(ctx, plan.Redis, "master")
		if err != nil {
			return err
		}
		replicas, err := s.all(ctx, plan.Redis, "replica")
		if err != nil {
			return err
		}
		var links []*link
		defer func() {
			for _, l := range links {
				l.close()
			}
		}()
		for _, r := range replicas {
			l, err := s.astray(ctx, master, r, 0, 0, 0)
			if err != nil {
				return err
			}
			links = append(links, l)
		}
		for i, r := range replicas {
			if err := s.await(ctx, r.Name+" following over the link", 2*time.Second, func() bool {
				standing, err := s.stack.standing(ctx, r.Name)
				return err == nil && standing.Linked && standing.MasterAddress == links[i].address()
			}); err != nil {
				return err
			}
		}
		s.say("letting nothing pass from %s to %s", master.Name, names(replicas))
		for i, r := range replicas {
			s.blow(r.Name)
			links[i].stop()
		}
		if err := s.last(ctx, d); err != nil {
			return err
		}
		if err := s.kill(ctx, master); err != nil {
			return err
		}
		for i, r := range replicas {
			n := links[i].lost()
			if n == 0 {
				return fmt.Errorf("nothing was lost on the way to %s", r.Name)
			}
			s.evidence("%d bytes of the master's were lost on their way to %s", n, r.Name)
		}
		return nil
	}
}

// badLinkLasts is how long a link stays bad, at the most.
const badLinkLasts = 4 * time.Second

// badLink has a replica follow its master through a proxy, until Sentinel puts
// it straight: it does so with one that follows another address for longer than
// failover-timeout (sentinelRefreshInstanceInfo in Redis 7.0).
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
		l, err := s.astray(ctx, master, replica, delay, loss, stall)
		if err != nil {
			return err
		}
		defer l.close()
		for until := time.Now().Add(badLinkLasts); time.Now().Before(until); {
			standing, err := s.stack.standing(ctx, replica.Name)
			if err == nil && (standing.Master || standing.MasterAddress != l.address()) {
				break
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

// astray has a replica follow its master through a link of the drill's own.
func (s *scene) astray(ctx context.Context, master, replica supervise.NodeStatus, delay time.Duration, loss float64, stall time.Duration) (*link, error) {
	l, err := newLink(master.Address, delay, loss, stall, s.random.Uint64())
	if err != nil {
		return nil, err
	}
	err = s.undo(step{Why: "the bad link of " + replica.Name, Follow: &follow{
		State: s.stack.state, Stack: s.stack.stack.Name, Node: replica.Address, Leave: l.address(),
		Sentinels: s.stack.addresses(ctx, plan.Sentinel), Master: master.Address,
	}})
	if err == nil {
		s.say("putting a link of the drill's between %s and %s", master.Name, replica.Name)
		s.blow(replica.Name)
		err = s.stack.admins[replica.Name].Follow(ctx, l.address())
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
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
