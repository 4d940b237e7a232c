package drill

import (
	"sync"

	"holdfast/internal/redis"
	"holdfast/internal/supervise"
)

// adminConns holds the drill's connections to redis nodes and Sentinels. Some faults add, remove or
// move nodes. It is safe for concurrent use; the zero value knows no node.
type adminConns struct {
	way    redis.Way // it does not change
	mu     sync.Mutex
	byName map[string]adminConn // by name
}

// adminConn is one node, at its last known address.
type adminConn struct {
	address string
	admin   *redis.Admin
}

// learn adds the nodes of a status. It closes the connection to an address that a node has left. A
// node that is gone is kept, since it may come back.
func (r *adminConns) learn(st supervise.Status, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName == nil {
		r.byName = map[string]adminConn{}
	}
	for _, n := range st.Nodes {
		was, known := r.byName[n.Name]
		if !n.Kind.Traits().Admin || n.Address == "" || was.address == n.Address {
			continue
		}
		if known {
			was.admin.Close()
		}
		r.byName[n.Name] = adminConn{n.Address, redis.NewAdmin(r.way, n.Address, "operator", password)}
	}
}

// admin returns the connection to a node that was in a status.
func (r *adminConns) admin(node string) *redis.Admin {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byName[node].admin
}

func (r *adminConns) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.byName {
		n.admin.Close()
	}
	r.byName = nil
}
