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

// The stages of a start. Sentinels come first, because a redis node asks them
// who is master; a balancer comes after the nodes that it sends requests to,
// because HAProxy takes a server for healthy until its first check. A user's
// program on Redis comes last of all: it may want Redis at once, even to be
// ready, and reaches it through the balancers.
const (
	stageSentinel = 1 + iota
	stageRedis
	stageApp
	stageBalancer
	stageAppBehindBalancer
	stageKeepalived // a host gets the virtual address when it can serve
)

// The ranks of a shutdown. A virtual address goes first, to a host that serves. Then
// the balancers go, so that no new request comes in; then the applications, which finish theirs. The Sentinels go before Redis: they
// would take the end of the master for its death and fail over in the midst of it.
// The master goes before its replicas, because it waits with its end until they have
// all that it wrote, for a second at the most (Redis 7.0, shutdown-timeout).
const (
	StopKeepalived = iota
	StopBalancers
	StopApps
	StopSentinels
	StopMaster
	StopReplicas
	StopRanks // how many there are
)

// Traits are what the nodes of one kind have in common.
type Traits struct {
	// Program is what a node runs; empty: its application says.
	Program Program
	// Stage orders the start. See Process.Stage.
	Stage int
	// Probe is how a node is asked whether it is well; empty: its application says.
	Probe ProbeKind

	// StopSignal asks a node to end, by name; an application may have another one.
	StopSignal string
	// StopAgain is true where the signal may be lost, and is repeated.
	StopAgain bool
	// Grace is how long a node may take to end; 0: the stack file says.
	Grace time.Duration
	// CutSignal is sent after the grace, and ends what still keeps a node from ending;
	// empty: it is killed at once.
	CutSignal string
	// StopRank orders the shutdown. See Kind.StopRank.
	StopRank int
	// HangLimit is how long a node that was well may leave its liveness probe
	// unanswered before it is killed; 0: it is not killed for that.
	HangLimit time.Duration

	// Admin is true where the operator's Redis client talks to a node.
	Admin bool
	// Data is true where a node holds the stack's data.
	Data bool
	// Serves is true where clients' requests pass a node: the stack is ready only
	// while one node is up.
	Serves bool
	// Rotates is true where the balancers send a node its requests: it leaves their
	// rotation before it ends.
	Rotates bool
	// KnownByAddress is true where others remember a node by its address: one that goes
	// or moves has to be forgotten.
	KnownByAddress bool
	// SharesAddress is true where the nodes of a host listen at one address; the
	// others have a port each.
	SharesAddress bool
	// Portless is true where a node listens on no port.
	Portless bool
	// Optional is true where the stack is up without a node that cannot run on its host:
	// the program is missing there, or a right.
	Optional bool
	// Reloads is true where a node that runs takes up its files anew when it is told
	// to, and Settable where it takes settings (see Settings).
	Reloads, Settable bool
	// KeepsSecrets is true where a node writes secrets into files of its own.
	KeepsSecrets bool
	// KeepsCertificate is true where a node that speaks TLS goes on with the certificate
	// of its start until it is told of another one.
	KeepsCertificate bool
	// OpenFiles is how many open files a node needs to serve well; 0: few.
	OpenFiles int
	// Keys are the keys of the stack file that say how many nodes there are, and On the
	// one that says on which hosts; none: those of its application.
	Keys []string
	On   string
}

// traits has a row for each kind.
var traits = map[Kind]Traits{
	Balancer: {
		Program: HAProxy, Stage: stageBalancer, Probe: ProbeHAProxy,
		// Master-worker (-W), for reloads. To its master SIGUSR1 is the soft
		// stop: the workers close their listeners, which leaves new
		// connections to the other balancers, answer what is in flight, and
		// end when their connections have: a client that idles on one can hold
		// it for the grace. SIGTERM, which ends that, would cut requests.
		StopSignal: "SIGUSR1", StopAgain: true, CutSignal: "SIGTERM", StopRank: StopBalancers,
		// A hung balancer still has its share of new connections given to it by the
		// kernel (SO_REUSEPORT), so nobody else can take it out.
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
		// It waits up to 1 s for replicas (shutdown-timeout) and syncs its append-only
		// file.
		StopSignal: "SIGTERM", Grace: 15 * time.Second, StopRank: StopMaster,
		// No HangLimit: it may be busy with its disk, and the Sentinels replace a
		// master that is silent. See endWedged in package supervise.
		Admin: true, Data: true, Serves: true, KnownByAddress: true, Settable: true, KeepsSecrets: true, KeepsCertificate: true,
		OpenFiles: 10032, // its usual maxclients, and 32
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
		// It gives the address away, and tells the other hosts so.
		StopSignal: "SIGTERM", Grace: 5 * time.Second, StopRank: StopKeepalived,
		// No HangLimit: its main process looks after the one that does the work.
		Portless: true, Optional: true,
		Keys: []string{"entry.virtual", "balancers"}, On: "entry.on",
	},
}

// OwnPort reports whether each node listens on a port of its own.
func (t Traits) OwnPort() bool { return !t.SharesAddress && !t.Portless }

// Traits returns what the nodes of a kind have in common.
func (k Kind) Traits() Traits { return traits[k] }

// StopRank returns when a node of a kind goes in a shutdown: those of the lowest rank
// first.
func (k Kind) StopRank(master bool) int {
	if k.Traits().Data && !master {
		return StopReplicas
	}
	return k.Traits().StopRank
}
