package drill

import (
	"context"
	"net"
	"path/filepath"

	"holdfast/internal/load"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/supervise"
)

// directNodes returns the web nodes that some clients ask directly. On hosts, those clients that
// only read connect from the node's own host: a cut leaves them on the node's side, where a reader
// may be left without any writer. It returns no nodes if they speak TLS, because then they accept
// only the stack's balancers.
func (s *supervisedStack) directNodes(st supervise.Status) []load.Node {
	if s.spec.Encrypts() {
		return nil
	}
	var all []load.Node
	for _, n := range st.Nodes {
		if n.Kind != plan.Web || n.App != s.loads.app || n.PID == 0 {
			continue
		}
		node := load.Node{Name: n.Name, URL: "http://" + n.Address}
		if s.hosts != nil {
			node.Dial = s.hosts.hostOf(n).dial
		}
		all = append(all, node)
	}
	return all
}

// dial connects to an address from a host's network namespace.
func (one host) dial(ctx context.Context, address string) (conn net.Conn, err error) {
	err = process.Within(filepath.Join(netnsDir, one.netns), func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}
