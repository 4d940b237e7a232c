package drill

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// Changes of Redis' own nodes. They are sent to the supervisor like those of apply, and the file on
// the disk stays as it is.

var applyRedis = fault{
	name: "apply-redis", about: "holdfast apply of stack files that change Redis' own nodes: a replica and two Sentinels more, another port of the master after a switchover, and the first file again",
	needs: needFailover, promise: planned, ready: requireNoChange,
	inject: func(ctx context.Context, fc *faultContext) error {
		r, err := fc.beginRedis(ctx)
		if err != nil {
			return err
		}
		for {
			next, there, err := r.next(ctx, fc)
			if err != nil {
				return err
			}
			if !there {
				return fc.restoreRedis(ctx, r)
			}
			if err := fc.applyRedisOne(ctx, r, next, nil); err != nil {
				return err
			}
		}
	},
}

var applyRedisKillSupervisor = fault{
	name: "apply-redis-kill-supervisor", about: "the changes of apply-redis, and SIGKILL to the supervisor in the middle of one of them: the next one carries it through, and then has the stack be what its file says",
	double: true, needs: needFailover, promise: held, ready: requireNoChange,
	inject: func(ctx context.Context, fc *faultContext) error { return fc.applyRedisAndKill(ctx, restartSupervisor) },
}

var applyRedisKillMaster = fault{
	name: "apply-redis-kill-master", about: "the changes of apply-redis, and SIGKILL to the Redis master in the middle of one of them: the change is carried through, or put back with a word about the node",
	double: true, needs: needFailover, promise: held, ready: requireNoChange,
	inject: func(ctx context.Context, fc *faultContext) error { return fc.applyRedisAndKill(ctx, killMaster) },
}

// How many redis nodes and Sentinels are added: one Sentinel more would make their number even.
const replicasMore, sentinelsMore = 1, 2

// redisChange is one change of Redis' own nodes.
type redisChange struct {
	what string
	file stack.Stack
	// moves is the redis node that gets another address; empty: none.
	moves string
}

// changingRedis is a stack while its redis nodes and Sentinels are being changed.
type changingRedis struct {
	was   formerStack
	first stack.Stack // the file before the changes
	ports []int       // of its redis nodes
	file  stack.Stack // the file as it is now
	done  int
}

// redisChanges is the number of changes that changingRedis.next returns.
const redisChanges = 3

// next returns the next change, or false if there is none left.
func (r *changingRedis) next(ctx context.Context, fc *faultContext) (c redisChange, there bool, err error) {
	c.file = r.file
	redis := &c.file.Redis
	switch r.done {
	case 0:
		c.what = "a replica and two Sentinels more"
		redis.Replicas += replicasMore
		redis.Sentinels += sentinelsMore
	case 1:
		c.what = "another port of the master"
		c.moves, redis.Ports, err = fc.masterAndNewPorts(ctx)
	case 2:
		c.what = "as many nodes as before, where they were"
		c.file = r.before()
	default:
		return c, false, nil
	}
	return c, true, err
}

// before returns the first file, with the former ports of the redis nodes written into it. The
// first file alone does not bring them back: a node whose port the file leaves open keeps its last
// one.
func (r *changingRedis) before() stack.Stack { return withRedisPorts(r.first, r.ports) }

// masterAndNewPorts returns the name of the Redis master, which has to be under load, and the ports
// of all redis nodes with a new one for the master.
func (fc *faultContext) masterAndNewPorts(ctx context.Context) (master string, ports []int, err error) {
	n, err := fc.randomBusyNode(ctx, plan.Redis, "master")
	if err != nil {
		return "", nil, err
	}
	now, err := supervise.ReadRunsAs(fc.stack.state())
	if err != nil {
		return "", nil, err
	}
	ports = now.RedisPorts()
	number, _ := strconv.Atoi(strings.TrimPrefix(n.Name, "redis-"))
	if number < 1 || number > len(ports) {
		return "", nil, fmt.Errorf("%s is the master, and not written down as a node of the stack", n.Name)
	}
	ports[number-1], err = freePort()
	return n.Name, ports, err
}

// beginRedis records what the stack is, and the beginning of the fault.
func (fc *faultContext) beginRedis(ctx context.Context) (*changingRedis, error) {
	nodes, err := fc.upNodes(ctx, plan.Redis, "")
	if err != nil {
		return nil, err
	}
	if err := fc.requireBusy(ctx, nodes...); err != nil {
		return nil, err
	}

	r := &changingRedis{}
	if r.was, err = fc.undoChanges(ctx, "the change of Redis' nodes"); err != nil {
		return nil, err
	}
	if r.first, err = r.was.runs.Stack(); err != nil {
		return nil, err
	}

	r.file, r.ports = r.first, r.was.runs.RedisPorts()
	targets := slices.Clone(r.was.nodes) // web nodes and balancers learn of each new node
	for i := range replicasMore {
		targets = append(targets, fmt.Sprintf("redis-%d", len(r.ports)+i+1))
	}
	for i := range sentinelsMore {
		targets = append(targets, fmt.Sprintf("sentinel-%d", r.first.Redis.Sentinels+i+1))
	}

	fc.recordInjection(targets...)
	return r, nil
}

// applyRedisOne makes one change, which has to succeed, and checks the result.
func (fc *faultContext) applyRedisOne(ctx context.Context, r *changingRedis, c redisChange, m *stepAction) error {
	before, err := fc.stack.status(ctx)
	if err != nil {
		return err
	}
	fc.say("%s", c.what)
	fc.recordInjection()
	if err := fc.carryOut(ctx, r.request(c), m); err != nil {
		return fmt.Errorf("%s: %w", c.what, err)
	}

	r.file = c.file
	r.done++
	if err := fc.verifyRedis(ctx, c.file); err != nil {
		return fmt.Errorf("%s: %w", c.what, err)
	}
	return fc.verifyMoved(ctx, before, c.moves)
}

func (r *changingRedis) request(c redisChange) supervise.Request {
	return supervise.Request{Kind: "apply", File: string(c.file.Show()), BaseDir: r.was.runs.BaseDir}
}

// verifyMoved checks that a redis node, the former master, is at another address, and that another
// node is the master now.
func (fc *faultContext) verifyMoved(ctx context.Context, before supervise.Status, node string) error {
	if node == "" {
		return nil
	}
	st, err := fc.stack.status(ctx)
	if err != nil {
		return err
	}
	was, _ := before.Node(node)
	is, _ := st.Node(node)
	switch master := masterOf(st).Name; {
	case was.Address == is.Address:
		return fmt.Errorf("%s was to move, and is at %s as before", node, is.Address)
	case master == "" || master == node:
		return fmt.Errorf("%s was to hand over before it moved, and the master is %q", node, master)
	default:
		fc.evidence("%s, which was the master, moved from %s to %s, and %s is the master", node, was.Address, is.Address, master)
	}
	return nil
}

// applyRedisAndKill makes the changes up to a random one, kills something in the middle of that
// one, and then restores what the stack was.
func (fc *faultContext) applyRedisAndKill(ctx context.Context, kill fault) error {
	r, err := fc.beginRedis(ctx)
	if err != nil {
		return err
	}

	at := fc.random.IntN(redisChanges)
	for r.done < at {
		next, _, err := r.next(ctx, fc)
		if err != nil {
			return err
		}
		if err := fc.applyRedisOne(ctx, r, next, nil); err != nil {
			return err
		}
	}

	c, _, err := r.next(ctx, fc)
	if err != nil {
		return err
	}
	fc.say("%s", c.what)
	if err := fc.killDuringRedisChange(ctx, r, c, kill); err != nil {
		return fmt.Errorf("%s: %w", c.what, err)
	}
	return fc.restoreRedis(ctx, r)
}

// killDuringRedisChange makes a change and kills something in the middle of it. If that was the
// master, the change may be stopped, but has to return why.
func (fc *faultContext) killDuringRedisChange(ctx context.Context, r *changingRedis, c redisChange, kill fault) error {
	m, err := fc.killAtRandomStep(ctx, r.request(c), kill)
	if err != nil {
		return err
	}
	fc.recordInjection()
	done, err := fc.change(ctx, r.request(c), m)
	ofSupervisor := kill.name == restartSupervisor.name
	switch {
	case err != nil:
		return err
	case !done.Done && (ofSupervisor || done.Why == ""):
		return fmt.Errorf("the apply was stopped after %d of %d steps: %q", done.Steps, done.Of, done.Why)
	case !done.Done:
		fc.evidence("%s: the apply was stopped after %d of %d steps: %s", c.what, done.Steps, done.Of, done.Why)
		return nil
	}
	fc.evidence("%s: the apply was carried through, %d steps in %.1f s", c.what, done.Steps, done.Ended.Sub(done.Began).Seconds())
	if ofSupervisor {
		return fc.verifyRedis(ctx, r.first) // the next supervisor has made the stack what its file says
	}
	return fc.verifyRedis(ctx, c.file)
}

// restoreRedis restores Redis' nodes and their ports, and checks that it worked.
func (fc *faultContext) restoreRedis(ctx context.Context, r *changingRedis) error {
	for _, back := range []stack.Stack{r.before(), r.first} {
		now, err := supervise.ReadRunsAs(fc.stack.state())
		if err != nil {
			return err
		}
		if len(r.was.runs.Differences(now)) == 0 {
			break
		}
		fc.recordInjection()
		req := r.was.runs.Again(now)
		req.File = string(back.Show())
		if p, err := fc.stack.client().Preview(ctx, req); err != nil {
			return err
		} else if p.Empty() {
			continue
		}
		if err := fc.carryOut(ctx, req, nil); err != nil {
			return fmt.Errorf("back to what it was: %w", err)
		}
	}
	if err := fc.verifyRedis(ctx, r.first); err != nil {
		return err
	}
	return fc.verifyAsBefore(ctx, r.was)
}
