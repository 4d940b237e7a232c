package plan

import (
	"time"

	"holdfast/internal/commands"
	"holdfast/internal/stack"
)

// backlog is the most memory, in bytes, that a redis node keeps of its stream of changes for
// replicas that reconnect. 64 MiB are 600,000 writes of about 100 bytes.
const backlog = 64 << 20

// redisData is what the templates of a redis node fill in.
type redisData struct {
	Stack, Node      string
	Host, Listen     string
	Port             int
	Wire             wire
	DataDir, ACLFile string
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
	// In bytes: the longest string, and how much output may wait for a client of each kind.
	// PubsubWaiting may be exceeded for up to a minute.
	LongestString, NormalBuffer, ReplicaBuffer, PubsubBuffer, PubsubWaiting int64
}

// buffers sets how much output Redis keeps for its clients. When more waits for a client, Redis
// closes the connection, and with it everybody's requests on it. So a web node stays below these
// limits.
func (d *redisData) buffers(s stack.Stack) {
	body := stack.Bytes(0)
	for _, app := range s.Apps {
		if app.KV == nil { // a user's own program may use all that Redis can do
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

// MinReplicas is how many connected replicas a master needs to take writes, in a stack that has
// replicas (redis.conf, min-replicas-to-write).
const MinReplicas = 1

// PingReplicas is the time between two pings of a master to its replicas, in seconds (redis.conf,
// repl-ping-replica-period).
const PingReplicas = 1

func (b builder) redis(n node) redisData {
	r := b.stack.Redis
	d := redisData{
		Stack: b.stack.Name, Node: n.name,
		Host: n.host.Address, Listen: n.host.listen(), Port: b.facts.Ports[n.name], Wire: b.wire(n),
		DataDir: b.path(n, "data"), ACLFile: b.path(n, "users.acl"),
		Fsync: r.Fsync, Save: r.Save,
		Memory: r.Memory, MemoryPolicy: r.MemoryPolicy,
		Password: b.facts.Secrets.Replication,
		Replicas: r.Replicas, Backlog: backlogSize(r.Memory),
		Secrets: b.facts.Secrets, WebRights: commands.NodeRights(b.allowed()), ScriptUsers: b.allScriptUsers(), ProgramUsers: b.programUsers(),
		BusyReply: r.DownAfter / 4, MinReplicas: MinReplicas, PingReplicas: PingReplicas,
	}
	d.buffers(b.stack)
	return d
}

// backlogSize returns the size of the replication backlog in bytes. The backlog counts towards
// maxmemory, so a small store gets a small one.
func backlogSize(memory stack.Bytes) int64 {
	if memory == 0 {
		return backlog
	}
	return min(backlog, max(1<<20, int64(memory)/8))
}

// sentinelData is what the templates of a Sentinel fill in.
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

// peer is another redis node or Sentinel; only a Sentinel has an ID, its run id.
type peer struct {
	Host string
	Port int
	ID   string
}

// master returns the redis node that the stack knows as its master. If that node is no longer in
// the stack, it returns the first one; package supervise refuses to start such a stack.
func (b builder) master() node {
	all := ofKind(b.nodes, Redis)
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
		// A majority, so that the two halves of a split can never both agree.
		Quorum: b.stack.Redis.Sentinels/2 + 1,
		// Sentinel does not accept 0.
		ParallelSyncs: max(1, b.stack.Redis.Replicas),
		Secrets:       b.facts.Secrets,
		ProgramUsers:  b.programUsers(),
		Redis:         b.stack.Redis,
		Epochs:        b.facts.Replication,
	}

	master := b.master()
	for _, r := range ofKind(b.nodes, Redis) {
		port := b.facts.Ports[r.name]
		if r.name == master.name {
			d.MasterHost, d.MasterPort = r.host.Address, port
			continue
		}
		d.KnownReplicas = append(d.KnownReplicas, peer{Host: r.host.Address, Port: port})
	}

	for _, s := range ofKind(b.nodes, Sentinel) {
		if s.name != n.name {
			d.KnownSentinels = append(d.KnownSentinels, peer{
				Host: s.host.Address, Port: b.facts.Ports[s.name], ID: b.facts.Secrets.SentinelIDs[s.name],
			})
		}
	}
	return d
}
