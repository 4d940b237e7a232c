package drill

import (
	"sync"

	"holdfast/internal/redis"
	"holdfast/internal/supervise"
)

// reach holds the drill's connections to redis nodes and Sentinels. Some faults add, remove or move
// nodes. It is safe for concurrent use; the zero value knows no node.
type reach struct {
	way redis.Way // it does not change
	mu  sync.Mutex
	own map[string]reached // by name
}

// reached is one node, at its last known address.
type reached struct {
	address string
	admin   *redis.Admin
}

// learn adds the nodes of a status. It closes the connection to an address that a node has left. A
// node that is gone is kept, since it may come back.
func (r *reach) learn(st supervise.Status, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own == nil {
		r.own = map[string]reached{}
	}
	for _, n := range st.Nodes {
		was, known := r.own[n.Name]
		if !n.Kind.Traits().Admin || n.Address == "" || was.address == n.Address {
			continue
		}
		if known {
			was.admin.Close()
		}
		r.own[n.Name] = reached{n.Address, redis.NewAdmin(r.way, n.Address, "operator", password)}
	}
}

// admin returns the connection to a node that was in a status.
func (r *reach) admin(node string) *redis.Admin {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.own[node].admin
}

func (r *reach) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.own {
		n.admin.Close()
	}
	r.own = nil
}
