package plan

import (
	"strings"
	"time"

	"holdfast/internal/commands"
	"holdfast/internal/stack"
)

// backlog is the most memory, in bytes, that a redis node keeps of its stream
// of changes for replicas that come back: 64 MiB are 600,000 writes of about
// 100 bytes.
const backlog = 64 << 20

// redisData is what the templates of a redis node show.
type redisData struct {
	Stack, Node      string
	Host, Listen     string
	Port             int
	Wire             wire
	DataDir, ACLFile string
	Socket           string // path; empty: none
	Fsync            string
	Save             []string
	Memory           stack.Bytes
	MemoryPolicy     string
	Password         string // of the replication user
	Replicas         int
	Backlog          int64
	Secrets          Secrets
	WebRights        string // of user web
	ScriptUsers      []redisUser
	ProgramUsers     []redisUser
	BusyReply        time.Duration
	MinReplicas      int
	PingReplicas     int
	// In bytes: the longest string, and how much may wait for a client of each kind,
	// of subscribers also for a minute.
	LongestString, NormalBuffer, ReplicaBuffer, PubsubBuffer, PubsubWaiting int64
}

// buffers sets what Redis keeps of answers. It closes the connection of a client for
// which more waits, and with it what others have under way there, so a web node keeps
// within it.
func (d *redisData) buffers(s stack.Stack) {
	body := stack.Bytes(0)
	for _, app := range s.Apps {
		if app.KV == nil { // a program of somebody else's may do what Redis does
			d.LongestString = 512 << 20
			continue
		}
		body = max(body, app.KV.Limits.Body)
		d.LongestString = max(d.LongestString, int64(app.KV.Limits.Body), 2*int64(app.KV.Limits.Answer))
	}
	if len(s.Apps) == 0 {
		d.LongestString = 512 << 20
	}
	d.NormalBuffer = max(1<<30, 4*d.LongestString)
	d.ReplicaBuffer = max(1<<30, int64(s.Redis.Memory))
	d.PubsubBuffer, d.PubsubWaiting = max(32<<20, 4*int64(body)), max(8<<20, int64(body))
}

// MinReplicas is how many connected replicas a master with replicas needs to take
// writes (redis.conf, min-replicas-to-write).
const MinReplicas = 1

// PingReplicas is how often a master pings its replicas, in seconds (redis.conf,
// repl-ping-replica-period).
const PingReplicas = 1

func (b builder) redis(n node) redisData {
	r := b.stack.Redis
	d := redisData{
		Stack: b.stack.Name, Node: n.name,
		Host: n.host.Address, Listen: n.host.listen(), Port: b.facts.Ports[n.name], Wire: b.wire(n),
		DataDir: b.path(n, "data"), ACLFile: b.path(n, "users.acl"),
		Socket: b.socket(n),
		Fsync:  r.Fsync, Save: r.Save,
		Memory: r.Memory, MemoryPolicy: r.MemoryPolicy,
		Password: b.facts.Secrets.Replication,
		Replicas: r.Replicas, Backlog: backlogSize(r.Memory),
		Secrets: b.facts.Secrets, WebRights: commands.NodeRights(b.allowed()), ScriptUsers: b.allScriptUsers(), ProgramUsers: b.programUsers(),
		BusyReply: r.DownAfter / 4, MinReplicas: MinReplicas, PingReplicas: PingReplicas,
	}
	d.buffers(b.stack)
	return d
}

// socket is the path of a redis node's unix socket, for the web nodes of its
// host. It is not too long, and has no comma, which the list of them could not
// name: check looks at that.
func (b builder) socket(n node) string { return b.path(n, "redis.sock") }

// sockets are those of a host's redis nodes, as a web node is told of them.
func (b builder) sockets(h Place) string {
	var all []string
	for _, n := range of(b.nodes, Redis) {
		if n.on(h) {
			all = append(all, b.address(n)+"="+b.socket(n))
		}
	}
	return strings.Join(all, ",")
}

// backlogSize is the size of the replication backlog in bytes. It counts
// towards maxmemory, so a small store gets a small one.
func backlogSize(memory stack.Bytes) int64 {
	if memory == 0 {
		return backlog
	}
	return min(backlog, max(1<<20, int64(memory)/8))
}

// sentinelData is what the templates of a Sentinel show.
type sentinelData struct {
	Stack, Node    string
	Host, Listen   string
	Port           int
	Wire           wire
	Announce       bool // whether other hosts reach it
	Dir, ACLFile   string
	Password       string // of the sentinel user
	ID             string
	MasterHost     string
	MasterPort     int
	Epochs         Replication
	Quorum         int
	KnownReplicas  []peer
	KnownSentinels []peer
	ParallelSyncs  int
	Secrets        Secrets
	ProgramUsers   []redisUser
	stack.Redis
}

// peer is another node, and its run id if it is a Sentinel.
type peer struct {
	Host string
	Port int
	ID   string
}

// master is the redis node that the stack knows as its master. Where that node
// is not in the stack, package supervise refuses to start it.
func (b builder) master() node {
	all := of(b.nodes, Redis)
	for _, n := range all {
		if n.name == b.facts.Replication.Master {
			return n
		}
	}
	return all[0]
}

func (b builder) sentinel(n node) sentinelData {
	d := sentinelData{
		Stack: b.stack.Name, Node: n.name,
		Host: n.host.Address, Listen: n.host.listen(), Port: b.facts.Ports[n.name], Wire: b.wire(n),
		Announce: len(b.facts.Hosts) > 0 && !n.host.loopback(),
		Dir:      b.path(n), ACLFile: b.path(n, "users.acl"),
		Password: b.facts.Secrets.Sentinel,
		ID:       b.facts.Secrets.SentinelIDs[n.name],
		// A majority, so that two halves of a split never both agree.
		Quorum: b.stack.Redis.Sentinels/2 + 1,
		// Sentinel takes no 0.
		ParallelSyncs: max(1, b.stack.Redis.Replicas),
		Secrets:       b.facts.Secrets,
		ProgramUsers:  b.programUsers(),
		Redis:         b.stack.Redis,
		Epochs:        b.facts.Replication,
	}
	master := b.master()
	for _, r := range of(b.nodes, Redis) {
		port := b.facts.Ports[r.name]
		if r.name == master.name {
			d.MasterHost, d.MasterPort = r.host.Address, port
			continue
		}
		d.KnownReplicas = append(d.KnownReplicas, peer{Host: r.host.Address, Port: port})
	}
	for _, s := range of(b.nodes, Sentinel) {
		if s.name != n.name {
			d.KnownSentinels = append(d.KnownSentinels, peer{
				Host: s.host.Address, Port: b.facts.Ports[s.name], ID: b.facts.Secrets.SentinelIDs[s.name],
			})
		}
	}
	return d
}
