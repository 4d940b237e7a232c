package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/plan"
)

// Redis and the Sentinels: which node is the master, by whose report, and the state of the data.

// sentinels returns the Sentinels that answer.
func (f Facts) sentinels() (nodes []Node) {
	for _, n := range f.Nodes {
		if n.Sentinel != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// failing reports whether any Sentinel has a failover under way.
func (f Facts) failing() bool {
	return slices.ContainsFunc(f.sentinels(), func(n Node) bool { return n.Sentinel.Failing })
}

// namedMaster returns the address that all answering Sentinels name as the master. It returns "" if
// they differ or none answers.
func (f Facts) namedMaster() string {
	all := f.sentinels()
	if len(all) == 0 || slices.ContainsFunc(all, func(n Node) bool { return n.Sentinel.Master != all[0].Sentinel.Master }) {
		return ""
	}
	return all[0].Sentinel.Master
}

func names(nodes []Node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.Name)
	}
	return strings.Join(all, ", ")
}

func checkRoles(f *findings) {
	masters, replicas := f.masters(), f.replicas()
	if len(masters)+len(replicas) == 0 {
		return
	}
	address := f.namedMaster()
	named := f.redisAt(address)
	if f.failing() {
		f.add(Note, "", "a failover is under way", "writes wait until a replica is the master", "wait some seconds, and run 'holdfast doctor' again")
		return
	}
	switch {
	case len(masters) > 1:
		f.add(Error, "", names(masters)+" all call themselves master", "what is written to one of them can be lost",
			"the Sentinels turn one of them within seconds. If it stays so: 'holdfast restart' the one that the Sentinels do not name ("+f.withName(address)+")")
	case len(masters) == 0 && named != nil && named.Redis != nil:
		f.add(Error, named.Name, fmt.Sprintf("all Sentinels that answer (%s) name %s as the master, and it calls itself a replica of %s", names(f.sentinels()), named.Name, named.Redis.Follows),
			"the Sentinels do not leave this state by themselves: there is no master, and writes wait and get 503",
			"the supervisor promotes it within a quarter of a minute. Without one: 'holdfast up -d'")
	case len(masters) == 0:
		f.add(Error, "", "no redis node calls itself master (replicas: "+names(replicas)+"); the Sentinels name "+f.withName(address), "writes wait and get 503",
			"wait some seconds for a failover; then see 'holdfast logs sentinel-1' for why there is none")
	case address != "" && named == nil:
		f.add(Error, "", "the Sentinels name "+address+" as the master, where no node of this stack listens", "applications that ask the Sentinels go there",
			"somebody has told them so (SENTINEL MONITOR): 'holdfast down' and 'holdfast up -d' write the Sentinels' files anew")
	case address != "" && named.Name != masters[0].Name:
		f.add(Error, masters[0].Name, fmt.Sprintf("%s calls itself master, and the Sentinels name %s", masters[0].Name, f.withName(address)),
			"writes may go to a node that is about to be turned into a replica, and be lost", "wait some seconds; if it stays so, 'holdfast restart "+masters[0].Name+"'")
	}
}

// withName returns an address with the name of its node.
func (f Facts) withName(address string) string {
	switch n := f.redisAt(address); {
	case address == "":
		return "different nodes, or do not answer"
	case n == nil:
		return address
	default:
		return n.Name + " (" + address + ")"
	}
}

func checkSentinels(f *findings) {
	all, declared := f.sentinels(), f.Stack.Redis.Sentinels
	majority := declared/2 + 1
	if declared == 0 || f.running() == 0 || !f.Stack.Redis.Enabled {
		return
	}
	if len(all) < majority {
		f.add(Error, "", fmt.Sprintf("%d of %d Sentinels answer, and %d are needed", len(all), declared, majority),
			"a master that dies is not replaced, and no redis node can start", "'holdfast status' shows which do not run, 'holdfast logs sentinel-1' why")
	}

	if f.namedMaster() == "" && len(all) > 1 && !f.failing() {
		var words []string
		for _, n := range all {
			words = append(words, n.Name+" names "+f.withName(n.Sentinel.Master))
		}
		f.add(Error, "", "the Sentinels disagree: "+strings.Join(words, ", "), "applications may use different masters",
			"they agree within some seconds when they reach each other: see their logs; 'holdfast restart' the one with the lower epoch")
	}

	for _, n := range all {
		s := n.Sentinel
		if s.Tilt {
			f.add(Warning, n.Name, n.Name+" is in TILT mode", "its clock jumped or it got no processor for two seconds: for half a minute it does nothing",
				"see what starves the machine or sets its clock")
		}
		if s.Down && !s.Failing {
			f.add(Warning, n.Name, fmt.Sprintf("%s holds the master %s for down", n.Name, s.Master), "when a majority does, it is replaced", "see whether the master answers: 'holdfast status'")
		}
		if s.Unable != "" {
			f.add(Error, n.Name, n.Name+" could not fail over: "+s.Unable, "a master that dies is not replaced", "see that all Sentinels run and reach each other: 'holdfast status'")
		}
		f.checkKnownNodes(n, majority)
		for _, w := range []struct {
			name      string
			has, want time.Duration
		}{{"down-after-milliseconds", s.DownAfter, f.Stack.Redis.DownAfter}, {"failover-timeout", s.Timeout, f.Stack.Redis.FailoverTimeout}} {
			if w.has != w.want && !n.Outdated {
				f.add(Warning, n.Name, fmt.Sprintf("%s has %s %v, and the stack file %v", n.Name, w.name, w.has, w.want),
					"a failover takes another time than expected", "'holdfast restart "+n.Name+"'")
			}
		}
	}
}

// checkKnownNodes checks which nodes a Sentinel knows.
func (f *findings) checkKnownNodes(n Node, majority int) {
	s, replicas, others := n.Sentinel, f.Stack.Redis.Replicas, f.Stack.Redis.Sentinels-1
	if s.Quorum != majority {
		f.add(Warning, n.Name, fmt.Sprintf("%s needs %d Sentinels to hold the master for down, and a majority is %d", n.Name, s.Quorum, majority),
			"a failover begins too easily, or never", "'holdfast up' sets it: 'holdfast down', 'holdfast up -d'; or SENTINEL SET "+f.Stack.Name+" quorum "+strconv.Itoa(majority))
	}
	if s.Replicas != replicas || s.Others != others {
		level, means := Note, "nodes of a former stack file are among them; those it expects to come back"
		if s.Replicas < replicas || s.Others < others {
			level, means = Warning, "it could choose no node that it does not know, and not be elected by Sentinels that it does not know"
		} else if s.Others > others {
			level, means = Warning, "a failover needs a majority of all that it knows, and some of these are not there"
		}
		f.add(level, n.Name, fmt.Sprintf("%s knows %s and %s, and there are %d and %d", n.Name, plural(s.Replicas, "replica"), plural(s.Others, "other Sentinel"), replicas, others),
			means, "with every node up and no failover under way: SENTINEL RESET "+f.Stack.Name+" at "+n.Address+" (docs/operations.md has how to ask it), one Sentinel after the other, half a minute apart")
	}
}

func checkEpochs(f *findings) {
	all := f.sentinels()
	if len(all) == 0 || f.failing() {
		return
	}
	newest := slices.MaxFunc(all, func(a, b Node) int { return int(a.Sentinel.Epoch - b.Sentinel.Epoch) }).Sentinel.Epoch
	for _, n := range all {
		if e := n.Sentinel.Epoch; e < newest {
			f.add(Warning, n.Name, fmt.Sprintf("%s has configuration epoch %d, and another Sentinel %d", n.Name, e, newest),
				"it has not heard of the last failover: it does not reach the others", "'holdfast logs "+n.Name+"'; then 'holdfast restart "+n.Name+"'")
		}
	}
	if newest < f.Epoch {
		f.add(Warning, "", fmt.Sprintf("the Sentinels have configuration epoch %d, and the stack had %d before", newest, f.Epoch),
			"their files are older than the last failover: somebody restored or removed them", "see that the master ("+f.withName(f.namedMaster())+") is the node with the newest data before you go on")
	}
}

// How far a replica may be behind, in bytes, and how long it may be silent, in seconds.
const (
	muchBehind = 8 << 20
	longSilent = 4
)

func checkReplication(f *findings) {
	masters := f.masters()
	if len(masters) != 1 {
		return
	}

	master := masters[0]
	info := master.Redis
	good, declared := 0, f.Stack.Redis.Replicas
	for _, n := range f.replicas() {
		r := n.Redis
		at := f.redisAt(r.Follows)
		switch {
		case at == nil || at.Name != master.Name:
			f.add(Error, n.Name, fmt.Sprintf("%s follows %s, and the master is %s", n.Name, f.withName(r.Follows), master.Name), "it gets none of the writes",
				"the Sentinels turn it within seconds; if it stays so, 'holdfast restart "+n.Name+"'")
		case r.Info["master_sync_in_progress"] == "1":
			f.add(Note, n.Name, fmt.Sprintf("%s is getting a copy of all data (%s MB are left)", n.Name, megabytes(r.number("master_sync_left_bytes"))), "it acknowledges no write until then", "wait for it")
		case !r.Linked:
			f.add(Error, n.Name, fmt.Sprintf("%s has had no connection to its master %s for %s s", n.Name, master.Name, r.Info["master_link_down_since_seconds"]),
				"it gets none of the writes", "'holdfast logs "+n.Name+"' shows why")
		default:
			good++
			f.checkLag(n, master)
		}
	}

	if n := info.number("min_slaves_good_slaves"); declared > 0 && info.Info["min_slaves_good_slaves"] != "" && n < plan.MinReplicas {
		f.add(Error, master.Name, fmt.Sprintf("the master %s has %d replicas that acknowledged in time, and needs %d", master.Name, n, plan.MinReplicas),
			"it refuses writes: they wait and get 503", "see why the replicas do not run or do not keep up")
	}
	if good < declared {
		f.add(Warning, master.Name, fmt.Sprintf("%d of %s are in step with the master %s", good, plural(declared, "replica"), master.Name), "the next fault may stop writes", "see the findings of the others")
	}
}

// checkLag checks how far a replica is behind, as its master reports it.
func (f *findings) checkLag(n, master Node) {
	for _, line := range master.Redis.Info {
		fields := map[string]string{}
		for field := range strings.SplitSeq(line, ",") {
			if k, v, ok := strings.Cut(field, "="); ok {
				fields[k] = v
			}
		}
		if fields["ip"]+":"+fields["port"] != n.Address {
			continue
		}
		offset, _ := strconv.ParseInt(fields["offset"], 10, 64)
		lag, _ := strconv.Atoi(fields["lag"])
		if behind := master.Redis.number("master_repl_offset") - offset; behind > muchBehind || lag >= longSilent {
			f.add(Warning, n.Name, fmt.Sprintf("%s is %s MB behind the master and was last heard %d s ago", n.Name, megabytes(behind), lag),
				"writes do not wait for it, and it would be a bad master", "see its disk, its processor and the network; 'holdfast logs "+n.Name+"'")
		}
	}
}

func megabytes(n int64) string { return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) }

func checkPersistence(f *findings) {
	for _, n := range f.Nodes {
		if n.Redis == nil {
			continue
		}
		r := n.Redis
		logs := "'holdfast logs " + n.Name + "'; is there room on its disk?"
		if r.Info["aof_last_write_status"] == "err" {
			f.add(Error, n.Name, n.Name+" could not write its append-only file (aof_last_write_status is err)", "it refuses writes, and acknowledges none as a replica", logs)
		}
		if r.Info["aof_last_bgrewrite_status"] == "err" {
			f.add(Warning, n.Name, n.Name+" could not compact its append-only file (aof_last_bgrewrite_status is err)", "the file grows until the disk is full; it takes memory and room for a second copy", logs)
		}
		if r.Info["rdb_last_bgsave_status"] == "err" {
			level, means := Warning, "there is no new snapshot; the append-only file goes on"
			if r.Settings["stop-writes-on-bgsave-error"] == "yes" && r.Settings["save"] != "" {
				level, means = Error, "it refuses writes (MISCONF) until a snapshot succeeds"
			}
			f.add(level, n.Name, n.Name+" could not write a snapshot (rdb_last_bgsave_status is err)", means, logs+" Enough memory to fork?")
		}
		if r.Info["loading"] == "1" {
			f.add(Note, n.Name, n.Name+" is loading its data", "it answers when it is done", "wait for it")
		}
	}
}

// nearlyFull is the share of a limit, in percent, from which the limit is near.
const nearlyFull = 90

func checkRedisMemory(f *findings) {
	for _, n := range f.Nodes {
		if n.Redis == nil {
			continue
		}
		used, most := n.Redis.number("used_memory"), n.Redis.number("maxmemory")
		policy := n.Redis.Info["maxmemory_policy"]
		share := int64(0)
		if most > 0 {
			share = used * 100 / most
		}
		values := fmt.Sprintf("%s uses %s of %s MB (redis.memory), %d %%", n.Name, megabytes(used), megabytes(most), share)
		switch {
		case share < nearlyFull:
		case policy != "" && policy != "noeviction":
			f.add(Note, n.Name, values, "it drops data to make room ("+policy+")", "raise redis.memory where that is not meant")
		case share >= 100:
			f.add(Error, n.Name, values, "writes are refused (OOM)", "remove keys, or raise redis.memory in the stack file")
		default:
			f.add(Warning, n.Name, values, "at 100 % writes are refused (OOM)", "remove keys, give them a time to live, or raise redis.memory in the stack file")
		}
		if clients, most := n.Redis.number("connected_clients"), n.Redis.number("maxclients"); most > 0 && clients*100 >= most*nearlyFull {
			f.add(Warning, n.Name, fmt.Sprintf("%s has %d of %d clients (maxclients)", n.Name, clients, most), "further ones are refused", "see who connects: CLIENT LIST at "+n.Address)
		}
	}
}

// criticalSettings are settings whose wrong values endanger data or stop writes.
var criticalSettings = map[string]string{
	"appendonly":            "what is written is not on the disk: a restart loses it, and a master that comes back empty would empty its replicas",
	"min-replicas-to-write": "a master refuses writes for want of replicas, or takes some that are lost in a failover; a switchover that was broken off leaves it high",
	"min-replicas-max-lag":  "a master that is cut off takes writes for longer, which are lost in a failover",
	"appendfsync":           "writes reach the disk at other times than the stack file says",
	"aclfile":               "the users have other rights than the stack gives them",
	"protected-mode":        "who reaches the port may have more rights than meant",
}

// settingMeans are the consequences of wrong values of other settings.
var settingMeans = map[string]string{
	"replica-priority":         "the Sentinels prefer another node than they should; it is 0 until a node that started without data has a copy, and a switchover that was broken off leaves it changed",
	"repl-ping-replica-period": "master and replicas notice late that the other is gone; a switchover that was broken off leaves it so",
	"maxmemory":                "writes are refused, or data is dropped, at another size than the stack file says",
}

func checkSettings(f *findings) {
	for _, n := range f.Nodes {
		if n.Redis == nil || n.Outdated { // see checkStackFile
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(n.Redis.Wanted)) {
			want := n.Redis.Wanted[name]
			has, known := n.Redis.Settings[name]
			if !known || sameSetting(name, has, want) {
				continue
			}
			level, means := Warning, settingMeans[name]
			if why, bad := criticalSettings[name]; bad {
				level, means = Error, why
			}
			if means == "" {
				means = "the node does not do what the stack has planned"
			}
			if name == "masterauth" {
				has, want = "another one", "the stack's"
			}
			f.add(level, n.Name, fmt.Sprintf("%s has %s %s, and the plan %s", n.Name, name, quoted(has), quoted(want)), means,
				fmt.Sprintf("'holdfast restart %s' reads its file again; or CONFIG SET %s %s at %s", n.Name, name, quoted(want), n.Address))
		}
	}
}

// quoted returns a value in the form in which it can be typed.
func quoted(value string) string {
	if value == "" || strings.Contains(value, " ") {
		return `"` + value + `"`
	}
	return value
}
