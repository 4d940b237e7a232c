package plan

// Facts are what a plan needs to know of the stack besides its file. They are the same on every
// host.
type Facts struct {
	// Hosts are where the nodes run. Without any, they run on this machine, at 127.0.0.1.
	Hosts []Place
	// Placement has the host of every node; nil where the stack file has no hosts.
	Placement Placement
	// Stay are the nodes that have not moved yet in the middle of a change, with the host and the
	// address that they still have. It overrides Hosts and Placement.
	Stay map[string]Place
	// Ports has the port of every node that listens on a port of its own (web, redis, sentinel; see
	// Needs), of the web nodes' admin servers (see adminPort), and PortRedisMaster and PortMetrics
	// where the stack needs them.
	Ports map[string]int
	// Secrets has a password for each Redis user.
	Secrets Secrets
	// Drained are the applications' nodes to which the balancers send nothing, although they may
	// run.
	Drained map[string]bool
	// Replication is what is known of the Redis master; zero at the first boot.
	Replication Replication
}

// HostFacts are what a plan needs to know of one host.
type HostFacts struct {
	// StateDir is the absolute path of the stack's state directory.
	StateDir string
	// BaseDir is the absolute path of the directory that relative paths in the stack file start
	// from.
	BaseDir string
	// Names are the host's own names.
	Names []string
	// HAProxyUser is the user and group that HAProxy switches to; empty where HAProxy is not
	// started as root.
	HAProxyUser string
	// User is the user that the processes run as; empty: unknown.
	User string
	// Self is the absolute path of this program; empty: unknown.
	Self string
	// Interface is the network interface with the host's address; empty: unknown.
	Interface string
	// SetsAddresses is true where processes of the host may set addresses of the host.
	SetsAddresses bool
	// Cores is the number of processors; 0: unknown.
	Cores int
	// Files is how many files a process may have open (the hard limit of RLIMIT_NOFILE); 0:
	// unknown.
	Files int
}

// Everywhere returns the same facts for every host, by name, where all hosts are on one machine.
func (f Facts) Everywhere(h HostFacts) map[string]HostFacts {
	all := map[string]HostFacts{}
	for _, place := range places(f) {
		all[place.Name] = h
	}
	return all
}

// Replication is what the stack knows of its Redis master apart from addresses, because a node
// keeps its name and its data when it moves to another port or host. The epochs are Sentinel's
// (sentinel.c, Redis 7.0): every failover has a higher one than the failover before it.
type Replication struct {
	// Master is the name of the redis node that is the master. It is empty while no node has been
	// master yet; then redis-1 becomes the first.
	Master string `json:"master,omitempty"`
	// ConfigEpoch is the epoch of the failover that made it the master.
	ConfigEpoch int64 `json:"config-epoch,omitempty"`
	// LeaderEpoch is the highest epoch in which a Sentinel voted, and CurrentEpoch the highest that
	// any Sentinel has seen.
	LeaderEpoch  int64 `json:"leader-epoch,omitempty"`
	CurrentEpoch int64 `json:"current-epoch,omitempty"`
}

// FirstMaster is the redis node that is made the master at the first boot.
const FirstMaster = "redis-1"

// adminPort returns the name in Facts.Ports of a web node's port for metrics and profiles. It
// cannot clash with a node's name, which has no dot.
func adminPort(node string) string { return node + ".admin" }

// PortRedisMaster is the name in Facts.Ports of the balancers' port that always leads to the Redis
// master, for programs that do not support Sentinel.
const PortRedisMaster = "redis-master"

// PortMetrics is the name in Facts.Ports of the supervisor's port for Prometheus, used where the
// stack file names none.
const PortMetrics = "metrics"

// Secrets are the passwords of the Redis users and the secrets of drills and balancers, 64
// hexadecimal digits each, and the Sentinels' run ids, 40 digits each.
type Secrets struct {
	Web         string            `json:"web"`
	Replication string            `json:"replication"`
	Sentinel    string            `json:"sentinel"`
	Scripts     string            `json:"scripts"`      // of the Redis users that clients' scripts run as
	ReadScripts string            `json:"read-scripts"` // of those for clients that may only read
	Operator    string            `json:"operator"`
	Balancer    string            `json:"balancer"`
	Drill       string            `json:"drill"`        // see DrillHeader
	Source      string            `json:"source"`       // see SourceHeaderName
	SentinelIDs map[string]string `json:"sentinel-ids"` // by node
	// Programs are the passwords of the users' own programs, by application.
	Programs map[string]string `json:"programs"`
}

// PortNeed is a node that needs a port of its own. See Needs.
type PortNeed struct {
	Node string
	// Fixed is the port that the stack file names; 0: to be chosen.
	Fixed int
	// Preferred is the port to take when it is free and Fixed is 0; 0: any port.
	Preferred int
}
