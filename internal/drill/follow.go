package drill

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
	"holdfast/internal/supervise"
)

// followThroughLink makes a replica follow its master through a bad link of the drill's own.
func (fc *faultContext) followThroughLink(ctx context.Context, master, replica supervise.NodeStatus, delay time.Duration, loss float64, stall time.Duration) (*link, error) {
	// The link is on the replica's host: the Sentinels know a replica by the address at which its
	// master sees it.
	netns := ""
	if fc.stack.hosts != nil {
		netns = netnsDir + "/" + fc.stack.hosts.hostOf(replica).netns
	}
	l, err := newLink(netns, master.Address, delay, loss, stall, fc.random.Uint64())
	if err != nil {
		return nil, err
	}
	err = fc.undo(step{Why: "the bad link of " + replica.Name, Follow: &followUndo{
		State: fc.stack.state(), Stack: fc.stack.spec.Name, Node: replica.Address, Leave: l.address(),
		Sentinels: fc.stack.addresses(ctx, plan.Sentinel), Master: master.Address,
	}})
	if err == nil {
		fc.say("putting a link of the drill's between %s and %s", master.Name, replica.Name)
		fc.recordInjection(replica.Name)
		err = fc.stack.admin(replica.Name).Follow(ctx, l.address())
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// addresses returns the addresses of the nodes of a kind; none if there is no status.
func (s *supervisedStack) addresses(ctx context.Context, kind plan.Kind) []string {
	var all []string
	st, err := s.status(ctx)
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

// followUndo makes a replica follow the master again.
type followUndo struct {
	State string `json:"state"` // of the stack, for its secrets
	Stack string `json:"stack"`
	Node  string `json:"node"` // the replica's address
	// Leave is the address of the link. If the replica follows another address, there is nothing to
	// do.
	Leave     string   `json:"leave"`
	Sentinels []string `json:"sentinels"`
	Master    string   `json:"master"` // used if no Sentinel names another one
}

func (f followUndo) perform() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	secrets, err := supervise.Secrets(f.State)
	if err != nil {
		return err
	}
	way, err := supervise.LastWay(f.State)
	if err != nil {
		return err
	}
	node := redis.NewAdmin(way, f.Node, "operator", secrets.Operator)
	defer node.Close()
	now, err := node.Standing(ctx)
	if err != nil {
		return nil // it is down; its next start decides which master it follows
	}
	if now.Master || now.MasterAddress != f.Leave {
		return nil
	}
	master := f.Master
	for _, address := range f.Sentinels {
		sentinel := redis.NewAdmin(way, address, "operator", secrets.Operator)
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
