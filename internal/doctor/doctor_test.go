package doctor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/servers"
	"holdfast/internal/stack"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// healthy returns the facts of the default stack when nothing is wrong.
func healthy() Facts {
	f := Facts{
		Now: now, Stack: stack.Default(), StateDir: "/state", Kept: true,
		Supervisor: Supervisor{PID: 1, Phase: "running", Process: &Process{PID: 1, Age: time.Hour}},
		Epoch:      3,
		Machine: Machine{
			DiskFree: 50 << 30, DiskSize: 100 << 30, InodesFree: 9 << 20, Inodes: 10 << 20,
			MemoryAvailable: 6 << 30, Memory: 8 << 30, Overcommit: "1", HugePages: "madvise", Backlog: 4096,
		},
	}
	add := func(name string, kind plan.Kind, address string) *Node {
		f.Nodes = append(f.Nodes, Node{
			Name: name, Kind: kind, Address: address, State: "up", Want: "up",
			Process: &Process{PID: 100 + len(f.Nodes), Age: time.Hour, OpenFiles: 50, MaxFiles: 100000},
		})
		n := &f.Nodes[len(f.Nodes)-1]
		switch kind {
		case plan.Balancer:
			n.Server, n.Version = servers.HAProxy, "2.6.12"
		case plan.Redis, plan.Sentinel:
			n.Server = servers.Redis
		}
		return n
	}
	for _, name := range []string{"sentinel-1", "sentinel-2", "sentinel-3"} {
		n := add(name, plan.Sentinel, "127.0.0.1:2"+name[9:])
		n.Version, n.Installed = "7.0.15", "7.0.15"
		n.Sentinel = &Sentinel{Master: "127.0.0.1:11", Epoch: 3, Quorum: 2, Replicas: 2, Others: 2, DownAfter: 500 * time.Millisecond, Timeout: 2 * time.Second}
	}
	for _, name := range []string{"redis-1", "redis-2", "redis-3"} {
		n := add(name, plan.Redis, "127.0.0.1:1"+name[6:])
		n.Version, n.Installed = "7.0.15", "7.0.15"
		n.Redis = &Redis{
			Follows: "127.0.0.1:11", Linked: true, Offset: 1000,
			Info: map[string]string{
				"aof_last_write_status": "ok", "aof_last_bgrewrite_status": "ok", "rdb_last_bgsave_status": "ok",
				"used_memory": "1000000", "maxmemory": "0", "maxmemory_policy": "noeviction", "connected_clients": "10", "maxclients": "10000",
				"uptime_in_seconds": "3600", "master_repl_offset": "1000",
			},
			Settings: map[string]string{"appendonly": "yes", "min-replicas-to-write": "1", "save": "900 1 300 10", "stop-writes-on-bgsave-error": "yes"},
			Wanted:   map[string]string{"appendonly": "yes", "min-replicas-to-write": "1", "save": "900 1 300 10"},
		}
	}
	master := f.node("redis-1").Redis
	master.Master, master.Follows, master.Linked = true, "", false
	master.Info["min_slaves_good_slaves"] = "2"
	master.Info["slave0"] = "ip=127.0.0.1,port=12,state=online,offset=1000,lag=0"
	master.Info["slave1"] = "ip=127.0.0.1,port=13,state=online,offset=990,lag=1"
	for _, name := range []string{"web-1", "web-2"} {
		n := add(name, plan.Web, "127.0.0.1:3"+name[4:])
		n.App, n.Web = "web", &Web{Ready: true, Master: "127.0.0.1:11", Replicas: 2, InSync: 2, Wrote: true}
	}
	for _, name := range []string{"balancer-1", "balancer-2"} {
		n := add(name, plan.Balancer, "127.0.0.1:6301")
		n.Version, n.Installed = "2.6.12", "2.6.12"
		n.Balancer = &Balancer{Connections: 5, MaxConnections: 8000, Servers: []Server{
			{Backend: "web", App: "web", Name: "web-1", Serves: true, State: "UP"},
			{Backend: "web", App: "web", Name: "web-2", Serves: true, State: "UP"},
			{Backend: "redis.master", Name: "redis-1", Serves: true, State: "UP"},
			{Backend: "redis.master", Name: "redis-2", State: "DOWN"},
			{Backend: "redis.master-alone", Name: "redis-1", Serves: true, State: "UP"},
		}}
	}
	return f
}

func TestNothingIsWrongWithAHealthyStack(t *testing.T) {
	t.Parallel()
	r := Judge(healthy())
	if len(r.Findings) > 0 || r.NeedsAttention() || r.Summary() != "nothing is wrong" {
		t.Errorf("findings: %+v", r)
	}
	if len(r.Checks) != len(checks) {
		t.Errorf("checks: %v", r.Checks)
	}
}

// each has stacks with one thing wrong, and what doctor has to find.
var each = []struct {
	wrong string
	make  func(f *Facts)
	level Level
	check string
	node  string
	words string // part of the text on what is wrong, or on what to do
}{
	{"no supervisor", func(f *Facts) { f.Supervisor = Supervisor{} }, Error, "supervisor", "", "no supervisor runs, and 10 of 10 nodes do"},
	{"a supervisor that hangs", func(f *Facts) { f.Supervisor.Silent = "no answer" }, Error, "supervisor", "", "does not answer"},
	{"a supervisor that is stopped", func(f *Facts) { f.Supervisor.Process.Stopped = true }, Error, "supervisor", "", "kill -CONT 1"},
	{"a machine that was started again", func(f *Facts) {
		f.Supervisor = Supervisor{}
		for i := range f.Nodes {
			f.Nodes[i] = Node{Name: f.Nodes[i].Name, Kind: f.Nodes[i].Kind, Died: true, State: "down"}
		}
	}, Error, "supervisor", "", "was not taken down"},
	{"a stack that was taken down", func(f *Facts) { f.Supervisor, f.Nodes = Supervisor{}, nil }, Note, "supervisor", "", "was taken down"},
	{"a stack that never was", func(f *Facts) { f.Supervisor, f.Nodes, f.Kept = Supervisor{}, nil, false }, Note, "supervisor", "", "has never been up in /state"},
	{"a damaged state directory", func(f *Facts) { f.Unreadable = "stack.json is damaged" }, Error, "supervisor", "", "stack.json is damaged"},
	{"a state directory that is open", func(f *Facts) { f.Open = "other users may write" }, Error, "supervisor", "", "other users may write"},

	{"a node that keeps dying", func(f *Facts) { f.node("web-1").State = "failed" }, Error, "nodes", "web-1", "keeps dying"},
	{"a virtual address that nobody has", func(f *Facts) { f.Supervisor.Virtual = []Virtual{{Address: "198.18.7.100"}} }, Error, "virtual-address", "", "nobody holds the virtual address 198.18.7.100"},
	{"a virtual address that two have", func(f *Facts) {
		f.Supervisor.Virtual = []Virtual{{Address: "198.18.7.100", Hosts: []string{"one", "two"}}}
	}, Warning, "virtual-address", "", "one and two hold"},
	{"a keepalived that cannot run", func(f *Facts) {
		f.Nodes = append(f.Nodes, Node{Name: "keepalived-1", Kind: plan.Keepalived, State: "failed", Detail: "keepalived is missing"})
	}, Warning, "nodes", "keepalived-1", "does not run: keepalived is missing"},
	{"a node that its operator stopped", func(f *Facts) { n := f.node("web-1"); n.Process, n.Want, n.State = nil, "down", "down" }, Warning, "nodes", "web-1", "its operator stopped it"},
	{"a node that is not there", func(f *Facts) { f.node("web-1").Process = nil }, Error, "nodes", "web-1", "does not run"},
	{"a node that does not answer", func(f *Facts) { f.node("web-1").Silent = "refused" }, Error, "nodes", "web-1", "does not answer: refused"},
	{"a node that starts", func(f *Facts) { f.node("web-1").State = "starting" }, Warning, "nodes", "web-1", "is starting"},
	{"a stray", func(f *Facts) {
		f.Nodes = append(f.Nodes, Node{Name: "web-9", Stray: true, Process: &Process{PID: 9}})
	}, Warning, "nodes", "web-9", "still runs"},
	{"an application without a server", func(f *Facts) { f.Supervisor.Unserved = []Unserved{{"web", "balancer-1", "down"}} }, Error, "nodes", "balancer-1", "no server for the application web"},
	{"a node that was stopped by a signal", func(f *Facts) { f.node("redis-2").Process.Stopped = true }, Warning, "paused", "redis-2", "SIGSTOP"},
	{"one that a drill stopped", func(f *Facts) { f.node("redis-2").Process.Stopped = true; f.Drill.Running = true }, Note, "paused", "redis-2", "drill"},
	{"one without a supervisor", func(f *Facts) { f.node("redis-2").Process.Stopped = true; f.Supervisor = Supervisor{} }, Warning, "paused", "redis-2", "kill -CONT -- -104"},
	{"a node that is started again and again", func(f *Facts) { n := f.node("web-2"); n.Crashes, n.Process.Age = 7, time.Minute }, Warning, "restarts", "web-2", "7 times with its present settings; its process was started 60 seconds ago"},
	{"a drill that was killed", func(f *Facts) { f.Drill.Left = []string{"a rule"} }, Error, "drill", "", "drill undo"},
	{"keys of a drill", func(f *Facts) { f.Drill.Keys = []string{"keys"} }, Note, "drill", "", "left keys"},
	{"a drill that runs", func(f *Facts) { f.Drill = Drill{Running: true, Left: []string{"a rule"}} }, Note, "drill", "", "under way"},
	{"a damaged journal of a drill", func(f *Facts) { f.Drill.Damaged = "no JSON" }, Error, "drill", "", "no JSON"},
	{"a change that was left", func(f *Facts) { f.Changes = []Change{{What: "web from 2 to 3 nodes", Since: now.Add(-time.Hour)}} }, Warning, "changes", "", "web from 2 to 3 nodes 60 minutes ago"},
	{"a change under way", func(f *Facts) { f.Changes = []Change{{What: "web", Running: true}} }, Note, "changes", "", "under way"},
	{"Sentinels' files half written", func(f *Facts) { f.Rewriting = true }, Warning, "changes", "", "anew"},

	{"two masters", func(f *Facts) { f.node("redis-2").Redis.Master = true }, Error, "roles", "", "redis-1, redis-2 all call themselves master"},
	{"the known deadlock", func(f *Facts) {
		r := f.node("redis-1").Redis
		r.Master, r.Follows = false, "127.0.0.1:12"
	}, Error, "roles", "redis-1", "it calls itself a replica of 127.0.0.1:12"},
	{"no master", func(f *Facts) { f.node("redis-1").Redis = nil }, Error, "roles", "", "no redis node calls itself master"},
	{"a master that nobody knows", func(f *Facts) { name(f, "10.0.0.1:6379") }, Error, "roles", "", "no node of this stack listens"},
	{"another master than is named", func(f *Facts) { name(f, "127.0.0.1:12") }, Error, "roles", "redis-1", "the Sentinels name redis-2"},
	{"a failover", func(f *Facts) { f.node("sentinel-1").Sentinel.Failing = true; f.node("redis-1").Redis = nil }, Note, "roles", "", "failover is under way"},
	{"no majority", func(f *Facts) { f.node("sentinel-1").Sentinel = nil; f.node("sentinel-2").Sentinel = nil }, Error, "sentinels", "", "1 of 3 Sentinels answer, and 2 are needed"},
	{"Sentinels that disagree", func(f *Facts) { f.node("sentinel-2").Sentinel.Master = "127.0.0.1:12" }, Error, "sentinels", "", "sentinel-2 names redis-2"},
	{"TILT", func(f *Facts) { f.node("sentinel-2").Sentinel.Tilt = true }, Warning, "sentinels", "sentinel-2", "TILT"},
	{"a Sentinel that sees the master down", func(f *Facts) { f.node("sentinel-2").Sentinel.Down = true }, Warning, "sentinels", "sentinel-2", "for down"},
	{"no quorum by a Sentinel's word", func(f *Facts) { f.node("sentinel-2").Sentinel.Unable = "NOQUORUM" }, Error, "sentinels", "sentinel-2", "NOQUORUM"},
	{"a wrong quorum", func(f *Facts) { f.node("sentinel-2").Sentinel.Quorum = 3 }, Warning, "sentinels", "sentinel-2", "needs 3"},
	{"a Sentinel that knows too few", func(f *Facts) { f.node("sentinel-2").Sentinel.Replicas = 1 }, Warning, "sentinels", "sentinel-2", "knows 1 replica and 2 other Sentinels"},
	{"a Sentinel that knows former replicas", func(f *Facts) { f.node("sentinel-2").Sentinel.Replicas = 3 }, Note, "sentinels", "sentinel-2", "knows 3 replicas"},
	{"a Sentinel that knows former Sentinels", func(f *Facts) { f.node("sentinel-2").Sentinel.Others = 4 }, Warning, "sentinels", "sentinel-2", "SENTINEL RESET"},
	{"another down-after", func(f *Facts) { f.node("sentinel-2").Sentinel.DownAfter = time.Minute }, Warning, "sentinels", "sentinel-2", "down-after-milliseconds 1m0s"},
	{"an epoch that is behind", func(f *Facts) { f.node("sentinel-2").Sentinel.Epoch = 1 }, Warning, "epochs", "sentinel-2", "configuration epoch 1, and another Sentinel 3"},
	{"Sentinels that have forgotten", func(f *Facts) { f.Epoch = 9 }, Warning, "epochs", "", "the stack had 9 before"},
	{"a replica of somebody else", func(f *Facts) { f.node("redis-2").Redis.Follows = "127.0.0.1:13" }, Error, "replication", "redis-2", "follows redis-3"},
	{"a replica without a connection", func(f *Facts) { f.node("redis-2").Redis.Linked = false }, Error, "replication", "redis-2", "no connection"},
	{"a replica that is filled", func(f *Facts) {
		r := f.node("redis-2").Redis
		r.Linked, r.Info["master_sync_in_progress"], r.Info["master_sync_left_bytes"] = false, "1", "3145728"
	}, Note, "replication", "redis-2", "3.0 MB are left"},
	{"a replica that lags", func(f *Facts) { f.node("redis-1").Redis.Info["master_repl_offset"] = "99000000" }, Warning, "replication", "redis-3", "94.4 MB behind"},
	{"a replica that is silent", func(f *Facts) {
		f.node("redis-1").Redis.Info["slave0"] = "ip=127.0.0.1,port=12,state=online,offset=1000,lag=7"
	}, Warning, "replication", "redis-2", "7 s ago"},
	{"a master without good replicas", func(f *Facts) { f.node("redis-1").Redis.Info["min_slaves_good_slaves"] = "0" }, Error, "replication", "redis-1", "0 replicas that acknowledged"},
	{"a setting that loses data", func(f *Facts) { f.node("redis-2").Redis.Settings["appendonly"] = "no" }, Error, "settings", "redis-2", "appendonly no, and the plan yes"},
	{"a fence that was left", func(f *Facts) { f.node("redis-1").Redis.Settings["min-replicas-to-write"] = "1000" }, Error, "settings", "redis-1", "CONFIG SET min-replicas-to-write 1"},
	{"another setting", func(f *Facts) { f.node("redis-2").Redis.Settings["save"] = "" }, Warning, "settings", "redis-2", `save "", and the plan "900 1 300 10"`},
	{"an append-only file that cannot be written", func(f *Facts) { f.node("redis-2").Redis.Info["aof_last_write_status"] = "err" }, Error, "persistence", "redis-2", "aof_last_write_status"},
	{"one that cannot be compacted", func(f *Facts) { f.node("redis-2").Redis.Info["aof_last_bgrewrite_status"] = "err" }, Warning, "persistence", "redis-2", "compact"},
	{"a snapshot that stops writes", func(f *Facts) { f.node("redis-2").Redis.Info["rdb_last_bgsave_status"] = "err" }, Error, "persistence", "redis-2", "snapshot"},
	{"a snapshot that does not", func(f *Facts) {
		r := f.node("redis-2").Redis
		r.Info["rdb_last_bgsave_status"], r.Settings["stop-writes-on-bgsave-error"] = "err", "no"
	}, Warning, "persistence", "redis-2", "snapshot"},
	{"a node that loads", func(f *Facts) { f.node("redis-2").Redis.Info["loading"] = "1" }, Note, "persistence", "redis-2", "loading"},
	{"memory that is nearly full", func(f *Facts) { f.node("redis-2").Redis.Info["maxmemory"] = "1048576" }, Warning, "redis-memory", "redis-2", "1.0 of 1.0 MB (redis.memory), 95 %"},
	{"memory that is full", func(f *Facts) { f.node("redis-2").Redis.Info["maxmemory"] = "1000000" }, Error, "redis-memory", "redis-2", "100 %"},
	{"a cache that is full", func(f *Facts) {
		i := f.node("redis-2").Redis.Info
		i["maxmemory"], i["maxmemory_policy"] = "1000000", "allkeys-lru"
	}, Note, "redis-memory", "redis-2", "100 %"},
	{"too many clients", func(f *Facts) { f.node("redis-2").Redis.Info["connected_clients"] = "9500" }, Warning, "redis-memory", "redis-2", "9500 of 10000"},

	{"a web node without a master", func(f *Facts) { f.node("web-1").Web.Master = "" }, Error, "in-sync", "web-1", "knows no Redis master"},
	{"a web node with another master", func(f *Facts) { f.node("web-1").Web.Master = "127.0.0.1:12" }, Error, "in-sync", "web-1", "uses the master redis-2"},
	{"nobody in sync", func(f *Facts) { f.node("web-1").Web.InSync = 0 }, Error, "in-sync", "web-1", "no replica in sync"},
	{"one not in sync", func(f *Facts) { f.node("web-1").Web.InSync = 1 }, Note, "in-sync", "web-1", "1 of 2 replicas"},
	{"a web node that sees few", func(f *Facts) { w := f.node("web-1").Web; w.Replicas, w.InSync = 1, 1 }, Warning, "in-sync", "web-1", "sees 1 of 2 replicas"},
	{"a web node that is not ready", func(f *Facts) { f.node("web-1").Web.Ready = false }, Warning, "in-sync", "web-1", "not ready"},
	{"requests that pile up", func(f *Facts) { f.node("web-1").Web.Held = 5000 }, Warning, "in-sync", "web-1", "5000 requests"},
	{"a server in maintenance", func(f *Facts) {
		s := &f.node("balancer-1").Balancer.Servers[0]
		s.Serves, s.State = false, "MAINT"
	}, Warning, "rotation", "web-1", "MAINT"},
	{"a node that its operator has drained", func(f *Facts) { f.node("web-1").Drained = true }, Note, "rotation", "web-1", "holdfast undrain web-1"},
	{"a server that is sent nothing", func(f *Facts) {
		s := &f.node("balancer-1").Balancer.Servers[0]
		s.Serves, s.State, s.Finding = false, "DOWN", "DOWN (Layer7 wrong status 500)"
	}, Warning, "rotation", "web-1", "wrong status 500"},
	{"a dead server that is sent requests", func(f *Facts) { f.node("web-1").Process = nil }, Warning, "rotation", "web-1", "balancer-1 sends requests to web-1, which does not run"},
	{"a server elsewhere that is down", func(f *Facts) {
		b := f.node("balancer-1").Balancer
		b.Servers = append(b.Servers, Server{Backend: "old", App: "old", Name: "old-1", State: "DOWN", Finding: "DOWN"})
	}, Warning, "rotation", "old-1", "sends old-1 of old no requests"},
	{"no server at all", func(f *Facts) {
		for i := range 2 {
			f.node("balancer-1").Balancer.Servers[i].Serves = false
		}
	}, Error, "rotation", "balancer-1", "no server for web"},
	{"a way to another master", func(f *Facts) {
		for i := 2; i < 5; i++ {
			s := &f.node("balancer-2").Balancer.Servers[i]
			s.Serves = s.Name == "redis-2"
		}
	}, Warning, "rotation", "balancer-2", "to redis-2, and the master is redis-1"},
	{"a balancer that ends", func(f *Facts) { f.node("balancer-1").Balancer.Stopping = true }, Warning, "rotation", "balancer-1", "about to end"},
	{"a balancer that is full", func(f *Facts) { f.node("balancer-1").Balancer.Connections = 7999 }, Warning, "rotation", "balancer-1", "7999 of 8000"},

	{"a port of somebody else", func(f *Facts) { f.node("web-1").Holder = "nginx (pid 7)" }, Error, "ports", "web-1", "held by nginx (pid 7)"},
	{"another port of somebody else", func(f *Facts) { f.Ports = []Port{{"127.0.0.1:9", "a tcp entry", "nginx"}} }, Error, "ports", "", "for a tcp entry"},
	{"a stack file that differs", func(f *Facts) { f.Differs = true }, Warning, "stack-file", "", "apply --plan"},
	{"a change that was stopped and put back", func(f *Facts) { f.Changes = []Change{{What: "apply", Since: now, Stopped: "web-1 does not come up"}} }, Note, "changes", "", "web-1 does not come up"},
	{"a change that was stopped half way", func(f *Facts) {
		f.Changes = []Change{{What: "apply", Since: now, Stopped: "web-2 does not come up", Left: []string{"web-1"}}}
	}, Warning, "changes", "", "web-2 does not come up"},
	{"nodes with other settings", func(f *Facts) { f.node("web-1").Outdated = true; f.node("web-2").Outdated = true }, Warning, "stack-file", "", "web-1, web-2"},
	{"a stack file with a mistake", func(f *Facts) { f.Mistakes = "holdfast.yaml:3:1: unknown key" }, Error, "stack-file", "", "holdfast.yaml:3:1"},
	{"a page that is gone", func(f *Facts) { f.KeptPages = []string{"entry.errors.503: 503.html does not exist"} }, Warning, "stack-file", "", "503.html does not exist"},
	{"a program that is gone", func(f *Facts) { f.References = []string{"apps.shop.command: no such file"} }, Error, "stack-file", "", "apps.shop.command"},
	{"a file that was edited", func(f *Facts) {
		f.Files = []File{{Path: "nodes/web-1/x", Node: "web-1", Line: 3, Has: "a", Wants: "b"}}
	}, Warning, "files", "web-1", `line 3 is "a", and the plan has "b"`},
	{"a file that is gone", func(f *Facts) { f.Files = []File{{Path: "nodes/web-1/x", Node: "web-1", Missing: true}} }, Warning, "files", "web-1", "is missing"},
	{"a release that was written to", func(f *Facts) {
		f.Releases = []Release{{App: "shop", Digest: "abc", Changed: []string{"shop.db"}}}
	}, Warning, "releases", "", "is not as it was copied: shop.db"},
	{"a release that lacks a file", func(f *Facts) { f.Releases = []Release{{App: "shop", Digest: "abc", Damaged: "it has no app.py"}} }, Error, "releases", "", "it has no app.py"},
	{"an older version that runs", func(f *Facts) { f.node("balancer-1").Installed = "2.6.13" }, Warning, "versions", "balancer-1", "runs version 2.6.12, and 2.6.13 is installed"},
	{"versions that differ", func(f *Facts) {
		n := f.node("redis-2")
		n.Version, n.Installed = "7.2.0", "7.2.0"
	}, Warning, "versions", "", "redis-2 7.2.0"},
	{"balancers without Lua", func(f *Facts) { f.NoLua = true }, Note, "versions", "", "built without Lua"},
	{"a program that was replaced", func(f *Facts) { f.node("web-1").Process.Replaced = true }, Note, "versions", "web-1", "was replaced"},
	{"a supervisor that was replaced", func(f *Facts) { f.Supervisor.Process.Replaced = true }, Note, "versions", "", "the supervisor runs a program"},
	{"a certificate that has ended", func(f *Facts) {
		f.Certificates = []Certificate{{Path: "/c", For: "shop", Ends: now.Add(-time.Hour)}}
	}, Error, "certificates", "", "ended on 2026-03-04 04:06"},
	{"a certificate that ends", func(f *Facts) {
		f.Certificates = []Certificate{{Path: "/c", For: "shop", Ends: now.Add(5 * 24 * time.Hour)}}
	}, Warning, "certificates", "", "ends in 5 days"},
	{"a certificate of the entry that ends in some days", func(f *Facts) {
		f.Certificates = []Certificate{{Path: "/c", Entry: true, Ends: now.Add(13 * 24 * time.Hour)}}
	}, Warning, "certificates", "", "of an entry ends in 13 days"},
	{"a certificate of the entry that ends tomorrow", func(f *Facts) {
		f.Certificates = []Certificate{{Path: "/c", Entry: true, Ends: now.Add(47 * time.Hour)}}
	}, Error, "certificates", "", "of an entry ends in"},
	{"a certificate of the entry that has ended", func(f *Facts) {
		f.Certificates = []Certificate{{Path: "/c", Entry: true, Ends: now.Add(-time.Hour)}}
	}, Error, "certificates", "", "of an entry ended on"},
	{"a certificate of the entry without its chain", func(f *Facts) {
		f.Certificates = []Certificate{{Path: "/c", Entry: true, Ends: now.Add(80 * 24 * time.Hour), Gap: "its issuer is not in the file"}}
	}, Warning, "certificates", "", "/c: its issuer is not in the file"},
	{"a certificate of the entry that is refused", func(f *Facts) {
		f.Certificates = []Certificate{{Path: "/c", Entry: true, Ends: now.Add(80 * 24 * time.Hour), Refused: "no key"}}
	}, Warning, "certificates", "", "refused: no key"},
	{"a damaged certificate", func(f *Facts) { f.Certificates = []Certificate{{Path: "/c", For: "shop", Broken: "asn1"}} }, Error, "certificates", "", "asn1"},
	{"a backup that failed", func(f *Facts) {
		f.Backup = &Backup{Last: now.Add(-time.Hour), Failed: now.Add(-time.Minute), Why: "no room"}
	}, Error, "backup", "", "no room"},
	{"an old backup", func(f *Facts) { f.Backup = &Backup{Last: now.AddDate(0, 0, -9)} }, Warning, "backup", "", "9 days old"},
	{"a backup that is late", func(f *Facts) { f.Backup = &Backup{Last: now.AddDate(0, 0, -1), Next: now.Add(-3 * time.Hour)} }, Warning, "backup", "", "was due 3 hours ago"},
	{"a full disk", func(f *Facts) { f.Machine.DiskFree = 1 << 20 }, Error, "disk", "", "1.0 of 102400.0 MB"},
	{"a disk that fills", func(f *Facts) { f.Machine.DiskFree = 1 << 30 }, Warning, "disk", "", "1024.0 of"},
	{"no room for rewriting", func(f *Facts) {
		f.Machine.DiskFree = 10 << 30
		f.node("redis-1").Redis.Info["aof_current_size"] = "20000000000"
	}, Warning, "disk", "", "append-only files have 19073.5 MB"},
	{"no inodes", func(f *Facts) { f.Machine.InodesFree = 10 }, Warning, "disk", "", "10 of 10485760 inodes"},
	{"little memory", func(f *Facts) { f.Machine.MemoryAvailable = 100 << 20 }, Warning, "memory", "", "100.0 of 8192.0 MB"},
	{"more promised than there is", func(f *Facts) { f.node("redis-1").Redis.Info["maxmemory"] = "99000000000" }, Warning, "memory", "", "may take"},
	{"no overcommit", func(f *Facts) { f.Machine.Overcommit = "0" }, Note, "memory", "", "overcommit_memory is 0"},
	{"no overcommit and much data", func(f *Facts) {
		f.Machine.Overcommit = "2"
		f.node("redis-1").Redis.Info["used_memory"] = "7000000000"
	}, Warning, "memory", "", "overcommit_memory is 2"},
	{"a short backlog", func(f *Facts) { f.Machine.Backlog = 128 }, Note, "kernel", "", "somaxconn is 128"},
	{"huge pages", func(f *Facts) { f.Machine.HugePages = "always"; f.node("redis-1").Process.HugePages = true }, Note, "kernel", "redis-1", "huge pages"},
	{"few files left", func(f *Facts) { f.node("balancer-1").Process.OpenFiles = 90000 }, Warning, "limits", "balancer-1", "90000 of 100000"},
	{"a low limit of files", func(f *Facts) { f.node("redis-1").Process.MaxFiles = 1024 }, Note, "limits", "redis-1", "1024 open files"},
	{"another clock", func(f *Facts) { f.node("redis-1").Redis.Ahead = -3 * time.Second }, Warning, "clocks", "redis-1", "differs by -3s"},
	{"a clock that is wrong by much", func(f *Facts) { f.node("redis-1").Redis.Ahead = -time.Hour }, Error, "clocks", "redis-1", "differs by -1h0m0s"},
	{"a clock that was set", func(f *Facts) { f.node("redis-1").Redis.Info["uptime_in_seconds"] = "9000" }, Warning, "clocks", "redis-1", "set by 1h30m0s"},
}

// name makes every Sentinel name this address as the master.
func name(f *Facts, address string) {
	for _, n := range f.sentinels() {
		n.Sentinel.Master = address
	}
}

func TestEachThingThatIsWrongIsFound(t *testing.T) {
	t.Parallel()
	fired := map[string]bool{}
	for _, c := range each {
		f := healthy()
		c.make(&f)
		r := Judge(f)
		found := slices.ContainsFunc(r.Findings, func(x Finding) bool {
			return x.Level == c.level && x.Check == c.check && x.Node == c.node && strings.Contains(x.What+" "+x.Do, c.words)
		})
		if !found {
			t.Errorf("%s: no %s of %s about %q with %q among %+v", c.wrong, c.level, c.check, c.node, c.words, r.Findings)
		}
		if needs := c.level != Note; needs && !r.NeedsAttention() {
			t.Errorf("%s: nobody is needed", c.wrong)
		}
		for i, x := range r.Findings {
			if x.What == "" || x.Means == "" || x.Do == "" || i > 0 && rank[r.Findings[i-1].Level] > rank[x.Level] {
				t.Errorf("%s: %+v", c.wrong, x)
			}
		}
		fired[c.check] = true
	}
	for _, c := range checks {
		if !fired[c.name] {
			t.Errorf("no case for the check %s", c.name)
		}
	}
}

// A consequence of another finding is not reported as a fault of its own.
func TestOneFaultIsNotToldTwice(t *testing.T) {
	t.Parallel()
	f := healthy()
	f.node("redis-2").Outdated = true
	f.node("redis-2").Redis.Settings["appendonly"] = "no"
	f.Files = []File{{Path: "nodes/redis-2/base.conf", Node: "redis-2", Line: 1}}
	r := Judge(f)
	if len(r.Findings) != 1 || r.Findings[0].Check != "stack-file" {
		t.Errorf("a stack file that differs: %+v", r.Findings)
	}

	f = healthy()
	f.Supervisor = Supervisor{}
	for i := range f.Nodes {
		f.Nodes[i] = Node{Name: f.Nodes[i].Name, Kind: f.Nodes[i].Kind, Address: f.Nodes[i].Address, State: "down"}
	}
	if r := Judge(f); len(r.Findings) != 1 {
		t.Errorf("a stack that was taken down: %+v", r.Findings)
	}
}

func TestSettingsAreReadAsRedisReadsThem(t *testing.T) {
	t.Parallel()
	got := Settings(`# comment
bind 127.0.0.1
dir "/a \"b\"/c d"
logfile ""
save 900 1
save 300 10
client-output-buffer-limit normal 1073741824 0 0
client-output-buffer-limit replica 256mb 64mb 60

maxmemory 512mb
`)
	for name, want := range map[string]string{
		"bind": "127.0.0.1", "dir": `/a "b"/c d`, "logfile": "", "save": "900 1 300 10", "maxmemory": "512mb",
		"client-output-buffer-limit": "normal 1073741824 0 0 replica 256mb 64mb 60",
	} {
		if value, there := got[name]; value != want || !there {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
	for _, c := range []struct {
		name, a, b string
		same       bool
	}{
		{"maxmemory", "536870912", "512mb", true},
		{"maxmemory", "536870912", "512m", false},
		{"appendonly", "yes", "no", false},
		{"client-output-buffer-limit", "normal 1073741824 0 0 slave 268435456 67108864 60", got["client-output-buffer-limit"], true},
		{"client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60", got["client-output-buffer-limit"], false},
	} {
		if sameSetting(c.name, c.a, c.b) != c.same {
			t.Errorf("%s: %q and %q are the same: %t", c.name, c.a, c.b, !c.same)
		}
	}
}
