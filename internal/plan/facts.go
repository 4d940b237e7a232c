package plan

// Facts are what a plan needs to know of the stack beside its file. They are the
// same on every host.
type Facts struct {
	// Hosts are where the nodes run; none: on this machine, at 127.0.0.1.
	Hosts []Place
	// Placement has the host of every node, where the stack file has hosts.
	Placement Placement
	// Stay are the nodes that are where they were while others move: in the middle of a
	// change. Each has the host and the address that it has, whatever Hosts and Placement
	// say.
	Stay map[string]Place
	// Ports has the port of every node that listens on one of its own (web,
	// redis, sentinel; see Needs), of PortRedisMaster when there is one, and
	// of the web nodes' admin ports.
	Ports map[string]int
	// Secrets has a password for each Redis user.
	Secrets Secrets
	// Drained are the applications' nodes that the balancers send nothing, although
	// they may run.
	Drained map[string]bool
	// Replication is what is known of the Redis master; zero at the first boot.
	Replication Replication
}

// HostFacts are what a plan needs to know of one host.
type HostFacts struct {
	// StateDir is the absolute path of the stack's state directory.
	StateDir string
	// BaseDir is the absolute directory that the stack file's relative paths
	// start from.
	BaseDir string
	// Names are the host's own.
	Names []string
	// HAProxyUser is the user and group that HAProxy drops to; empty when it
	// is not started as root.
	HAProxyUser string
	// User is the user that the processes run as; empty: unknown.
	User string
	// Self is the absolute path of this program; empty: unknown.
	Self string
	// Interface is the network interface that has the host's address; empty: unknown.
	Interface string
	// SetsAddresses is true where processes of the host may set addresses.
	SetsAddresses bool
	// Cores is how many processors there are; 0: unknown.
	Cores int
	// Files is how many files a process may have open (RLIMIT_NOFILE, the hard
	// limit); 0: unknown.
	Files int
}

// Everywhere returns the facts of every host, by name, where all hosts are on one
// machine.
func (f Facts) Everywhere(h HostFacts) map[string]HostFacts {
	all := map[string]HostFacts{}
	for _, place := range places(f) {
		all[place.Name] = h
	}
	return all
}

// Replication is what the stack knows of its Redis master apart from addresses:
// a node keeps its name and its data when it moves to another port or host. The
// epochs are Sentinel's own (sentinel.c, Redis 7.0): every failover has a higher
// one than the failover before it.
type Replication struct {
	// Master is the name of the redis node that is the master. It is empty when
	// no node has been one: redis-1 is the first.
	Master string `json:"master,omitempty"`
	// ConfigEpoch is the epoch of the failover that made it the master.
	ConfigEpoch int64 `json:"config-epoch,omitempty"`
	// LeaderEpoch is the highest epoch in which a Sentinel voted, and
	// CurrentEpoch the highest that one has heard of.
	LeaderEpoch  int64 `json:"leader-epoch,omitempty"`
	CurrentEpoch int64 `json:"current-epoch,omitempty"`
}

// FirstMaster is the redis node that is made the master at the first boot.
const FirstMaster = "redis-1"

// adminPort is the name in Facts.Ports of a web node's port for metrics and
// profiles. No node has a dot in its name.
func adminPort(node string) string { return node + ".admin" }

// PortRedisMaster is the name in Facts.Ports of the balancers' port that
// always leads to the Redis master, for programs that know no Sentinels.
const PortRedisMaster = "redis-master"

// PortMetrics is the name in Facts.Ports of the supervisor's port for Prometheus,
// where the stack file names none.
const PortMetrics = "metrics"

// Secrets are the passwords of the Redis users and of drills at the entry, 64
// hexadecimal digits each, and the Sentinels' run ids, 40 digits each.
type Secrets struct {
	Web         string            `json:"web"`
	Replication string            `json:"replication"`
	Sentinel    string            `json:"sentinel"`
	Scripts     string            `json:"scripts"`      // of the users as which clients' scripts run
	ReadScripts string            `json:"read-scripts"` // of those of clients who may only read
	Operator    string            `json:"operator"`
	Balancer    string            `json:"balancer"`
	Drill       string            `json:"drill"`        // see DrillHeader
	Source      string            `json:"source"`       // see SourceHeaderName
	SentinelIDs map[string]string `json:"sentinel-ids"` // by node
	// Programs are the passwords of the users' own programs, by application.
	Programs map[string]string `json:"programs"`
}

// PortNeed is a node that needs a port of its own.
type PortNeed struct {
	Node string
	// Fixed is the port that the stack file names; 0: to be chosen.
	Fixed int
	// Preferred is the port to take when it is free and none is fixed; 0:
	// any.
	Preferred int
}
