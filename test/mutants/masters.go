package mutants

// electing are the rules by which a web node decides which node is the master.
var electing = []Mutant{{
	Name:    "minority-of-sentinels",
	Rule:    "more than half of all Sentinels name the master",
	Changes: []Change{in("election/decide.go", "votes[named] > len(sentinels)/2 {", "votes[named] > 0 {")},
	Tests:   tests("redis/election", "TestDecide"),
}, {
	Name:    "old-claim",
	Rule:    "a node that the Sentinels' newer word contradicts is no master",
	Changes: []Change{in("election/decide.go", "case claim.Since > v.NamedSince:", "case true:")},
	Tests:   tests("redis/election", "TestDecide"),
}, {
	Name:    "unheard-claim",
	Rule:    "with no majority of Sentinels a node's own word is not enough",
	Changes: []Change{in("election/decide.go", "case named == \"\" && followed(v.Nodes, claim.Address):", "case named == \"\":")},
	Tests:   tests("redis/election", "TestDecide"),
}, {
	Name:    "first-of-several",
	Rule:    "of several that claim it the Sentinels' majority decides",
	Changes: []Change{in("election/decide.go", "if c.Address != named {\n\t\t\tcontinue", "if false {\n\t\t\tcontinue")},
	Tests:   tests("redis/election", "TestDecide"),
}, {
	Name:    "promoted-later",
	Rule:    "unless another was promoted later",
	Changes: []Change{in("election/decide.go", "if other.Since > c.Since {", "if false {")},
	Tests:   tests("redis/election", "TestDecide"),
}, {
	Name:    "doubted",
	Rule:    "a master that a Sentinel holds for down is not certain",
	Changes: []Change{in("election/snapshot.go", "&& !s.Doubted && !s.Electing", "&& !s.Electing")},
	Tests:   tests("redis/election", "TestCertain"),
}, {
	Name:    "unannounced",
	Rule:    "an old master is not the master while one is silent that was promoted after the Sentinels named it",
	Changes: []Change{in("election/decide.go", "since > v.NamedSince && v.Electing:", "since > v.NamedSince && false:")},
	Tests:   tests("redis/election", "TestDecide"),
}, {
	Name:    "votes-unread",
	Rule:    "nor one in whose place the Sentinels may have elected another",
	Changes: []Change{in("election/snapshot.go", "&& !s.Doubted && !s.Electing", "&& !s.Doubted")},
	Tests:   tests("redis/election", "TestCertain"),
}, {
	Name:    "every-outcome",
	Rule:    "an election that is seen after a master was promoted is not the one that promoted it",
	Changes: []Change{in("election/elections.go", "return open.round > master.Since })", "return false })")},
	Tests:   tests("redis/election", "TestAnElectionThreatensAMasterThatIsNotItsOutcome"),
}, {
	Name:    "earlier-outcome",
	Rule:    "of two open elections the later one's leader decides",
	Changes: []Change{in("election/elections.go", "open.Vote == Vote{last, w.ID}", "open.Leader == w.ID")},
	Tests:   tests("redis/election", "TestAnElectionThreatensAMasterThatIsNotItsOutcome"),
}, {
	Name:    "old-majority",
	Rule:    "a majority that has not heard of the newest configuration does not stand by the master",
	Changes: []Change{in("discovery/monitor.go", "newest != named && newest != s.Master || open", "open")},
	Tests:   tests("redis", "TestAMajorityThatHasNotHeardOfTheLastElectionIsNotBelieved"),
}, {
	Name:    "short-election",
	Rule:    "an election takes as long as Sentinels told, also while none of them replies",
	Changes: []Change{in("election/elections.go", "known.limit = max(known.limit, limit)", "known.limit = limit")},
	Tests:   tests("redis/election", "TestAVoteThatIsNewerThanTheConfigurationIsAnOpenElection"),
}, {
	Name:    "unknown-leader",
	Rule:    "calm Sentinels say nothing of a leader that is not among them",
	Changes: []Change{in("election/elections.go", "known.Leader == noLeader && calm", "calm")},
	Tests:   tests("redis/election", "TestAVoteThatIsNewerThanTheConfigurationIsAnOpenElection"),
}, {
	Name:    "votes-asked-for",
	Rule:    "a web node never makes a Sentinel vote",
	Changes: []Change{in("discovery/ask.go", "at.Port, \"0\", \"web\")", "at.Port, \"1\", \"web\")")},
	Tests:   tests("redis", "TestWritesWaitForAnElectionThatMayBeUnderWay"),
}, {
	Name:    "uncertain",
	Rule:    "nor one that some node does not follow, where no majority speaks",
	Changes: []Change{in("election/snapshot.go", "case !n.Answered || n.Master || n.Follows != s.Master:", "case false:")},
	Tests:   tests("redis/election", "TestCertain"),
}, {
	Name:    "known-to-the-master-alone",
	Rule:    "nor one with a replica that only the master knows",
	Changes: []Change{in("election/snapshot.go", "return followers >= s.Others() // also", "return true // also")},
	Tests:   tests("redis/election", "TestCertain"),
}, {
	Name:    "flags-unread",
	Rule:    "a Sentinel's flags say that it doubts the master",
	Changes: []Change{in("discovery/ask.go", "return hasFlag(flags, \"s_down\")", "return flags == \"\" && hasFlag(flags, \"s_down\")")},
	Tests:   tests("redis/discovery", "TestASentinelDoubtsAMasterByItsFlags"),
}, {
	Name:    "no-role-asked",
	Rule:    "a session begins with a node that says it is the master",
	Changes: []Change{in("commit/follow.go", "if !standing.Master {\n\t\treturn", "if !standing.Master && false {\n\t\treturn")},
	Tests:   tests("redis/commit", "TestNothingIsSentToANodeThatMayBeNoMaster"),
}, {
	Name:    "same-master-unasked",
	Rule:    "a new session with the same master begins with a round that is newer than the last one's end",
	Changes: []Change{in("commit/follow.go", "if w.last == master {", "if false {")},
	Tests:   tests("redis/commit", "TestNothingIsSentToANodeThatMayBeNoMaster"),
}, {
	Name:    "uncertain-session",
	Rule:    "a session begins where nobody can have been promoted unheard",
	Changes: []Change{in("commit/follow.go", "if !now.Certain() {", "if false {")},
	Tests:   tests("redis/commit", "TestNothingIsSentToANodeThatMayBeNoMaster"),
}, {
	Name:    "write-on-contradiction",
	Rule:    "nothing is sent while the evidence contradicts itself",
	Changes: []Change{in("commit/follow.go", "if now.Master != master {\n\t\t\t// Not one", "if now.Master != master && false {\n\t\t\t// Not one")},
	Tests:   tests("redis/commit", "TestNothingIsSentToANodeThatMayBeNoMaster"),
}}

// starting are the supervisor's rules about which redis node starts as the master.
var starting = []Mutant{{
	Name:    "start-by-a-minority",
	Rule:    "a redis node starts as a majority of the Sentinels say",
	Changes: []Change{at("supervise/decide.go", "if len(f.Views) <= f.Sentinels/2 {\n\t\treturn \"\", 0", "if false {\n\t\treturn \"\", 0")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "start-by-any-epoch",
	Rule:    "the highest epoch wins",
	Changes: []Change{at("supervise/decide.go", "return int(a.Epoch - b.Epoch) })", "return int(b.Epoch - a.Epoch) })")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "two-in-one-epoch",
	Rule:    "two masters of one epoch are nobody's to choose between",
	Changes: []Change{at("supervise/decide.go", "if v.Epoch == best.Epoch && v.Address != best.Address {", "if false {")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "empty-master",
	Rule:    "a master without data does not start: it would wipe its replicas",
	Changes: []Change{at("supervise/decide.go", "case c.Empty:\n\t\treturn startDecision{Refused", "case false:\n\t\treturn startDecision{Refused")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "empty-alone",
	Rule:    "nor does one without Sentinels",
	Changes: []Change{at("supervise/decide.go", "if c.Booted && c.Empty {", "if false {")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "empty-replica",
	Rule:    "a replica without data waits for somebody who could fill it",
	Changes: []Change{at("supervise/decide.go", "case name != c.Name && c.Booted && c.Empty && !f.Standings[name].Master:", "case false:")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "empty-beside-replica",
	Rule:    "a replica without data waits for a master, and not just for any other node",
	Changes: []Change{at("supervise/decide.go", "c.Booted && c.Empty && !f.Standings[name].Master:", "c.Booted && c.Empty && len(f.Standings) == 0:")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "first-copy",
	Rule:    "a replica is not promoted before its first copy of the data is complete",
	Changes: []Change{at("supervise/first_copy.go", `return slices.Concat(args, []string{"--replica-priority", strconv.Itoa(never)}), nil`, "return args, nil")},
	Tests:   tests("supervise", "TestARedisNodeIsNotPromotedBeforeItsFirstCopy"),
}, {
	Name:    "broken-off-copy",
	Rule:    "a first copy that was broken off counts as none",
	Changes: []Change{at("supervise/data.go", "awaits, err := h.awaitsFirstCopy(ctx, node); awaits || err != nil {", "awaits, err := h.awaitsFirstCopy(ctx, node); false {")},
	Tests:   tests("supervise", "TestARedisNodeIsNotPromotedBeforeItsFirstCopy"),
}, {
	Name:    "no-hold-back",
	Rule:    "a dead master is held back while the Sentinels promote a replica",
	Changes: []Change{at("supervise/decide.go", "case c.Dead < c.HoldBack:", "case false:")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "start-amid-failover",
	Rule:    "and while a failover is under way",
	Changes: []Change{at("supervise/decide.go", "case f.failing():\n\t\treturn startDecision{", "case false:\n\t\treturn startDecision{")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "second-master",
	Rule:    "nobody starts as master beside another",
	Changes: []Change{at("supervise/decide.go", "case f.otherMaster(c.Name) != \"\":", "case false:")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "starved-is-gone",
	Rule:    "a redis node that runs and does not answer is there",
	Changes: []Change{at("supervise/decide.go", "for name := range f.Running {\n\t\tif name != node {", "for name := range f.Running {\n\t\tif name != node && false {")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "replica-first",
	Rule:    "at a cold start a replica waits for the master",
	Changes: []Change{at("supervise/decide.go", "c.Dead < c.MasterFirst && !f.answers(name):", "false:")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "older-replica-first",
	Rule:    "and for a replica with newer data",
	Changes: []Change{at("supervise/decide.go", "c.Dead < c.NewestFirst && !f.Standings[c.Newest].Linked:", "false:")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "deadlock-to-the-older",
	Rule:    "only the node with the most data is promoted out of a deadlock",
	Changes: []Change{at("supervise/decide.go", "if s.Offset > named.Offset {", "if s.Offset > named.Offset && false {")},
	Tests:   tests("supervise", "TestOnlyTheKnownDeadlockIsMended"),
}, {
	Name:    "wedged-master",
	Rule:    "a node that hangs is killed beside a master that works, and the master never is",
	Changes: []Change{at("supervise/decide.go", "&& !f.RepliedWithError[name] && name != master {", "&& !f.RepliedWithError[name] {"), at("supervise/decide.go", "|| !f.Standings[master].Master {\n\t\treturn nil", "{\n\t\treturn nil")},
	Tests:   tests("supervise", "TestARedisNodeIsWedgedOnlyBesideAMasterThatWorks"),
}, {
	Name:    "files-of-any-epoch",
	Rule:    "who was the master is read from the Sentinel's file of the highest epoch",
	Changes: []Change{at("supervise/master.go", "if f.ConfigEpoch > best.ConfigEpoch || f.ConfigEpoch == best.ConfigEpoch && address == \"\" {", "if f.ConfigEpoch < best.ConfigEpoch || address == \"\" {")},
	Tests:   tests("supervise", "TestWhoWasTheMasterIsReadFromTheSentinelsFiles"),
}, {
	Name:    "files-that-contradict",
	Rule:    "where the files contradict each other nobody is named",
	Changes: []Change{at("supervise/master.go", "if f := files[name]; f.ConfigEpoch == best.ConfigEpoch && f.Address != address {", "if f := files[name]; false {")},
	Tests:   tests("supervise", "TestWhoWasTheMasterIsReadFromTheSentinelsFiles"),
}, {
	Name:    "moved-while-running",
	Rule:    "Redis does not move while it runs",
	Changes: []Change{at("supervise/master.go", "if was := m.Addresses[node]; was != \"\" && was != wanted[node] {", "if false {\n\t\t\twas := \"\"")},
	Tests:   tests("supervise", "TestAMoveIsToldFromWhatIsNew"),
}, {
	Name:    "sentinels-of-yesterday",
	Rule:    "a Sentinel that has not heard of the last failover does not decide",
	Changes: []Change{at("supervise/master.go", "if !there || s.persisted.Booted && (f.ConfigEpoch != r.ConfigEpoch || f.Address != s.node(r.Master).spec().Address) {", "if !there || s.persisted.Booted && f.ConfigEpoch < r.ConfigEpoch-1000 {")},
	Tests:   tests("supervise", "TestSentinelsThatHaveNotHeardOfTheLastFailoverDoNotDecide"),
}, {
	Name: "new-stack-on-old-data",
	Rule: "a state directory without its stack file is no new stack",
	Changes: []Change{
		at("supervise/master.go", "if names, err := host.sentinelPaths(s.ctx); len(names) > 0 || err != nil {", "if _, err := host.sentinelPaths(s.ctx); err != nil {"),
		at("supervise/master.go", "return len(with) > 0, nil", "return false, nil"),
	},
	Tests: tests("supervise", "TestAStateDirectoryWithoutItsStackFileIsNoNewStack"),
}, {
	Name:    "bereft-master",
	Rule:    "where the master's data is gone, the node that was written to last takes its place",
	Changes: []Change{at("supervise/data.go", "return b.written.Compare(a.written) })", "return a.written.Compare(b.written) })")},
	Tests:   tests("supervise", "TestWhereTheMastersDataIsGoneTheNodeThatWasWrittenToLastTakesItsPlace"),
}, {
	Name:    "same-time",
	Rule:    "a replica that missed writes waits for one that has them",
	Changes: []Change{at("supervise/data.go", "case newest.written.Sub(with.written) > sameTime:", "case false:")},
	Tests:   tests("supervise", "TestAtAColdStartAReplicaThatMissedWritesWaitsForOneThatHasThem"),
}}

// balancing are rules in what HAProxy, Redis and the Sentinels are told.
var balancing = []Mutant{{
	Name:    "no-key-of-the-balancer",
	Rule:    "a request that a balancer sends again has a key",
	Changes: []Change{at("plan/haproxy.cfg.qtpl.go", "http-request set-header Holdfast-Attempt %[unique-id]", "http-request del-header Holdfast-Attempt")},
	Fault:   "kill-held-web", Found: []string{"wrong counter", "wrong set"},
}, {
	Name:    "unsafe-again",
	Rule:    "an application of the user's own gets a request twice only where that does no harm",
	Changes: []Change{at("plan/haproxy.cfg.qtpl.go", "http-request disable-l7-retry unless { var(txn.again) -m bool }", "")},
	Tests:   tests("plan", "TestARequestIsSentAgainOnlyWhereThatIsSafe"),
}, {
	Name:    "last-word",
	Rule:    "a node's refusal does not speak for the try before it",
	Changes: []Change{at("plan/haproxy.cfg.qtpl.go", "` if { status 503 } !{ res.hdr(Holdfast-Tries) 0 }", "` if { status 599 }")},
	Tests:   tests("plan", "TestANodesRefusalDoesNotSpeakForTheTryBeforeIt"),
}, {
	Name:    "died-is-no",
	Rule:    "a request that a node died with is not called unexecuted",
	Changes: []Change{at("plan/haproxy.cfg.qtpl.go", "if { status 503 } { res.hdr(Holdfast-Tries) -m found } !{", "if { status 599 } !{")},
	Tests:   tests("plan", "TestARequestThatANodeDiedWithIsNotCalledUnexecuted"),
}}
