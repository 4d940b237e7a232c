package plan

import "time"

// Kind is the kind of a node.
type Kind string

// The kinds of node.
const (
	Balancer Kind = "balancer"
	Web      Kind = "web" // any application's node
	Redis    Kind = "redis"
	Sentinel Kind = "sentinel"
	// Keepalived moves the virtual address between the hosts.
	Keepalived Kind = "keepalived"
)

// Kinds are all kinds, in the order in which their nodes are listed.
var Kinds = []Kind{Sentinel, Redis, Web, Balancer, Keepalived}

// The stages of a start. Sentinels come first, because a redis node asks them who is master. A
// balancer comes after the nodes that it sends requests to, because HAProxy considers a server
// healthy until its first check. A user's program that uses Redis comes last: it may need Redis to
// become ready, and reaches it through the balancers.
const (
	stageSentinel = 1 + iota
	stageRedis
	stageApp
	stageBalancer
	stageAppBehindBalancer
	stageKeepalived // a host gets the virtual address when it can serve
)

// The ranks of a shutdown. The virtual address goes first, to a host that still serves. Then go the
// balancers, so that no new request comes in, and then the applications, which finish their
// requests. The Sentinels go before Redis: otherwise they would consider the stopped master dead
// and fail over in the middle of the shutdown. The master goes before its replicas, because before
// it ends it waits up to a second until they have all that it wrote (Redis 7.0, shutdown-timeout).
const (
	StopKeepalived = iota
	StopBalancers
	StopApps
	StopSentinels
	StopMaster
	StopReplicas
	StopRanks // the number of ranks
)

// Traits are what the nodes of one kind have in common.
type Traits struct {
	// Program is what a node runs; empty: its application decides.
	Program Program
	// Stage orders the start. See Process.Stage.
	Stage int
	// Probe is how a node is asked whether it is well; empty: its application decides.
	Probe ProbeKind

	// StopSignal asks a node to end, by name; an application may have another signal.
	StopSignal string
	// StopAgain is true where the signal may get lost and is therefore repeated.
	StopAgain bool
	// Grace is how long a node may take to end; 0: the stack file decides.
	Grace time.Duration
	// CutSignal is sent after the grace, and closes what still keeps a node from ending; empty: the
	// node is killed at once.
	CutSignal string
	// StopRank orders the shutdown. See Kind.StopRank.
	StopRank int
	// HangLimit is how long a healthy node may leave its liveness probe unanswered before it is
	// killed; 0: it is not killed for that.
	HangLimit time.Duration

	// Admin is true where the operator's Redis client connects to a node.
	Admin bool
	// Data is true where a node holds the stack's data.
	Data bool
	// Serves is true where clients' requests pass through a node. The stack is ready only while at
	// least one node of such a kind is up.
	Serves bool
	// Rotates is true where the balancers send requests to a node, so that it has to leave their
	// rotation before it ends.
	Rotates bool
	// KnownByAddress is true where others remember a node by its address, and have to forget a node
	// that goes or moves.
	KnownByAddress bool
	// SharesAddress is true where the nodes of a host all listen at one address; the nodes of other
	// kinds have a port each.
	SharesAddress bool
	// Portless is true where a node listens on no port.
	Portless bool
	// Optional is true where the stack counts as up without a node that cannot run on its host,
	// because the program or a right is missing there.
	Optional bool
	// Reloads is true where a running node rereads its files when it is told to, and Settable where
	// it takes new settings (see Settings).
	Reloads, Settable bool
	// KeepsSecrets is true where a node writes secrets into files of its own.
	KeepsSecrets bool
	// KeepsCertificate is true where a node that speaks TLS keeps the certificate that it started
	// with until it is told of a new one.
	KeepsCertificate bool
	// OpenFiles is how many open files a node needs to serve well; 0: few.
	OpenFiles int
	// Keys are the keys of the stack file that determine how many nodes there are; empty: those of
	// the node's application. On is the key that lists the hosts they may run on; empty: the
	// application's.
	Keys []string
	On   string
}

// traits has a row for each kind.
var traits = map[Kind]Traits{
	Balancer: {
		Program: HAProxy, Stage: stageBalancer, Probe: ProbeHAProxy,
		// HAProxy runs as master and worker (-W), so that it can reload. SIGUSR1 to the master is
		// the soft stop: the workers close their listeners, which leaves new connections to the
		// other balancers, answer what is in flight, and end when their connections have ended. A
		// client with an idle connection can hold a worker for the grace; SIGTERM ends that, but
		// would also cut requests.
		StopSignal: "SIGUSR1", StopAgain: true, CutSignal: "SIGTERM", StopRank: StopBalancers,
		// The kernel still gives a hung balancer its share of new connections (SO_REUSEPORT), so
		// nothing else can take it out of service.
		HangLimit: 3 * time.Second,
		Serves:    true, SharesAddress: true, Reloads: true, KeepsCertificate: true,
		OpenFiles: 1024,
		Keys:      []string{"balancers"}, On: "entry.on",
	},
	Web: {
		Stage: stageApp, StopSignal: "SIGTERM", StopRank: StopApps,
		HangLimit: 10 * time.Second,
		Serves:    true, Rotates: true,
		OpenFiles: 1024,
	},
	Redis: {
		Program: RedisServer, Stage: stageRedis, Probe: ProbeRedis,
		// It waits up to 1 s for replicas (shutdown-timeout) and syncs its append-only file.
		StopSignal: "SIGTERM", Grace: 15 * time.Second, StopRank: StopMaster,
		// No HangLimit: the node may be busy with its disk, and the Sentinels replace a master that
		// is silent. See endHung in package supervise.
		Admin: true, Data: true, Serves: true, KnownByAddress: true, Settable: true, KeepsSecrets: true, KeepsCertificate: true,
		OpenFiles: 10032, // its default maxclients, and 32
		Keys:      []string{"redis.replicas", "redis.enabled"}, On: "redis.on",
	},
	Sentinel: {
		Program: RedisServer, Stage: stageSentinel, Probe: ProbeSentinel,
		StopSignal: "SIGTERM", Grace: 5 * time.Second, StopRank: StopSentinels,
		HangLimit: 10 * time.Second,
		Admin:     true, KnownByAddress: true, Settable: true, KeepsSecrets: true, KeepsCertificate: true,
		Keys: []string{"redis.sentinels", "redis.enabled"}, On: "redis.sentinels-on",
	},
	Keepalived: {
		Program: KeepalivedProgram, Stage: stageKeepalived, Probe: ProbeKeepalived,
		// At the signal it gives the address up and tells the other hosts so.
		StopSignal: "SIGTERM", Grace: 5 * time.Second, StopRank: StopKeepalived,
		// No HangLimit: its main process supervises the process that does the work.
		Portless: true, Optional: true,
		Keys: []string{"entry.virtual", "balancers"}, On: "entry.on",
	},
}

// OwnPort reports whether each node of the kind listens on a port of its own.
func (t Traits) OwnPort() bool { return !t.SharesAddress && !t.Portless }

// Traits returns what the nodes of a kind have in common.
func (k Kind) Traits() Traits { return traits[k] }

// StopRank returns the rank of a node of this kind in a shutdown. Nodes of the lowest rank go
// first.
func (k Kind) StopRank(master bool) int {
	if k.Traits().Data && !master {
		return StopReplicas
	}
	return k.Traits().StopRank
}
