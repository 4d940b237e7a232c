package mutants

// Table is every mutant, in the order of what it breaks: acknowledging writes, reading, sending
// requests again, choosing the master, and starting as the master.
var Table = concat(acknowledging, reading, withoutWait, repeating, remembering, electing, starting, balancing)

func concat(parts ...[]Mutant) (all []Mutant) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// in returns a change of a file of package redis.
func in(file, old, new string) Change { return Change{"internal/redis/" + file, old, new} }

// at returns a change of a file anywhere below internal.
func at(file, old, new string) Change { return Change{"internal/" + file, old, new} }

// tests returns tests of a package below internal.
func tests(pkg, run string) Tests { return Tests{"./internal/" + pkg, run} }

// acknowledging are the rules by which a write is acknowledged (package ack, and the group
// commit, which asks it).
var acknowledging = []Mutant{{
	Name:    "ack-before-wait",
	Rule:    "a write is acknowledged when the replicas have it",
	Changes: []Change{in("commit/session.go", "s.answer(func(o *operation.Operation) bool {\n\t\treturn ack.AtOnce(o.Writes, o.Async) || o.State.Load() == operation.Finished\n\t})", "s.answer(all)")},
	Fault:   "kill-stalled-master", Found: []string{"lost write"},
}, {
	Name:    "ack-without-replica",
	Rule:    "a write that fewer than the least number of replicas have is not acknowledged, whoever else is answered",
	Changes: []Change{in("ack/ack.go", "return !write || acks >= s.MinAcks }", "return true }")},
	Tests:   tests("redis/commit", "TestAnOperationIsAnsweredWhenItsReplicasHaveIt"),
}, {
	Name:    "ack-in-doubt",
	Rule:    "where a replica has not confirmed, a majority of Sentinels has to stand by the master",
	Changes: []Change{in("ack/ack.go", "case !round.Certain():", "case false:")},
	Tests:   tests("redis/commit", "TestAnOperationIsAnsweredWhenItsReplicasHaveIt"),
}, {
	Name:    "ack-of-a-stranger",
	Rule:    "who has confirmed matters, and not how many",
	Changes: []Change{in("commit/session.go", "if s.agreed(now) {", "if true {")},
	Tests:   tests("redis/commit", "TestAnOperationIsAnsweredWhenItsReplicasHaveIt"),
}, {
	Name:    "ack-of-some",
	Rule:    "a write is acknowledged at once when every node that could be promoted has confirmed",
	Changes: []Change{in("ack/ack.go", "enough && acks >= s.Others && s.Now", "enough && s.Now")},
	Tests:   tests("redis/commit", "TestAnOperationIsAnsweredWhenItsReplicasHaveIt"),
}, {
	Name:    "ack-by-a-lost-wait",
	Rule:    "where the answer to WAIT is lost nothing is answered",
	Changes: []Change{in("commit/session.go", "if err != nil {\n\t\treturn fmt.Errorf(\"%w (%w)\", outcome.ErrLost, err)\n\t}\n\n\tneeds", "needs")},
	Tests:   tests("redis/commit", "TestAnOperationIsAnsweredWhenItsReplicasHaveIt"),
}, {
	Name:    "ack-of-a-replaced-master",
	Rule:    "where a replica has not confirmed, the nodes are asked whether this is still the master",
	Changes: []Change{in("ack/ack.go", "case round.Master != master:", "case false:")},
	Tests:   tests("redis/commit", "TestAnOperationIsAnsweredWhenItsReplicasHaveIt"),
}, {
	Name:    "short-doubt",
	Rule:    "a silent replica is waited for as long as the Sentinels may take to promote it",
	Changes: []Change{in("ack/insync.go", "limit, began = round.DownAfter+doubtMargin(round.DownAfter), heard.since", "limit += 0")},
	Tests:   tests("redis/ack", "TestASilentReplicaIsWaitedForAsLongAsItMayBePromoted"),
}, {
	Name:    "no-doubt-margin",
	Rule:    "and a little longer: a Sentinel looks once a ping and acts at a tick",
	Changes: []Change{in("ack/insync.go", "return min(downAfter, time.Second) + 200*time.Millisecond", "return 0")},
	Tests:   tests("redis/ack", "TestASilentReplicaIsWaitedForAsLongAsItMayBePromoted"),
}, {
	Name:    "slow-for-good",
	Rule:    "a slow replica that falls silent is waited for like any silent one",
	Changes: []Change{in("ack/insync.go", "last.news = false", "last.news = last.news || false")},
	Tests:   tests("redis/ack", "TestASlowReplicaThatFallsSilentIsASilentOne"),
}, {
	Name:    "given-up-in-doubt",
	Rule:    "no replica is given up, slow or gone, while the Sentinels do not stand by the master",
	Changes: []Change{in("ack/insync.go", "if !round.StoodBy() && confirmed(master, offset) < round.Others() {", "if false {")},
	Tests:   tests("redis/ack", "TestNobodyIsGivenUpWhileTheSentinelsDoNotStandByTheMaster"),
}, {
	Name:    "lacking-is-enough",
	Rule:    "a replica has confirmed when it has the offset of the write",
	Changes: []Change{in("ack/insync.go", "func(r election.Replica) bool { return r.Offset >= offset })", "func(r election.Replica) bool { return true })")},
	Tests:   tests("redis/ack", "TestEveryReplicaInSyncHasToConfirm"),
}, {
	Name:    "unasked-is-enough",
	Rule:    "without the offset nobody has confirmed",
	Changes: []Change{in("ack/insync.go", "return len(among) == 0, false // else", "return true, false // else")},
	Tests:   tests("redis/ack", "TestWithoutTheOffsetNobodyHasConfirmed"),
}, {
	Name:    "behind-at-once",
	Rule:    "a replica that was behind is in sync again when it has what the master had",
	Changes: []Change{in("ack/insync.go", "r.Offset >= away.offset && now.After(away.until)", "now.After(away.until)")},
	Tests:   tests("redis/ack", "TestAReplicaThatHasJustComeJoinsLater"),
}, {
	Name:    "one-strike",
	Rule:    "a replica that is slow again and again stays away longer each time",
	Changes: []Change{in("ack/insync.go", "min(strikes+1, maxStrikes)", "0")},
	Tests:   tests("redis/ack", "TestASlowReplicaLeavesSoonAndComesBackLater"),
}, {
	Name:    "newcomer-in-sync",
	Rule:    "a replica that has just come is not in sync yet",
	Changes: []Change{in("ack/insync.go", "!ok && s.Count > 0 {", "!ok && s.Count < 0 {")},
	Tests:   tests("redis/ack", "TestAReplicaThatHasJustComeJoinsLater"),
}}

// reading are the rules for answering a read by the master, by a replica, or from the cache.
var reading = []Mutant{{
	Name:    "old-proof",
	Rule:    "an answer rests on a proof that the replicas follow this master, which is at most 150 ms old",
	Changes: []Change{in("ack/ack.go", "ProofAge   = 150 * time.Millisecond", "ProofAge   = 20 * time.Second")},
	Tests:   tests("redis", "TestACutOffMasterAnswersNoReads"),
}, {
	Name:    "read-what-no-replica-has",
	Rule:    "what a read shows is on the replicas",
	Covered: "who has confirmed matters, and not how many",
	Changes: []Change{in("commit/session.go", "if s.agreed(now) {", "if true {"), in("ack/ack.go", "return max(s.InSync, min(s.MinAcks, s.Online))", "return 0")},
	Fault:   "kill-stalled-master", Found: []string{"lost write", "stale read", "not linearizable", "wrong counter", "wrong set"},
}, {
	Name:    "read-in-doubt",
	Rule:    "a master that is cut off from the majority answers no reads, also of clients that only read and are cut off with it",
	Changes: []Change{in("ack/ack.go", "case !round.Certain():", "case false:")},
	Fault:   "cut-master-host", Found: []string{"stale read", "not linearizable"},
}, {
	Name:    "replica-as-master",
	Rule:    "who asks for the newest value is answered by the master",
	Changes: []Change{in("client.go", "if !o.Writes && !o.Local && r.Read != ReadMaster {", "if r.MaxLag = 1 << 40; !o.Writes {")},
	Fault:   "slow-link", Found: []string{"stale read", "not linearizable"},
}, {
	Name:    "old-replica",
	Rule:    "a replica's answer is no older than was asked for",
	Changes: []Change{in("replica/readers.go", "if !known || age > limit {", "if !known {")},
	Tests:   tests("redis", "TestAReplicaWhoseDataIsTooOldDoesNotAnswer"),
}, {
	Name:    "token-forgotten",
	Rule:    "a replica that lacks what the token stands for does not answer",
	Changes: []Change{in("replica/readers.go", "|| !standing.Linked || standing.Offset < after {", "|| !standing.Linked {")},
	Tests:   tests("redis", "TestTheTokenOfAReplicasAnswerIsAsNewAsTheAnswer"),
}, {
	Name:    "token-of-before",
	Rule:    "the token of a replica's answer is as new as the answer",
	Changes: []Change{in("replica/readers.go", "r.Token = request.TokenOf(max(after, standing.Offset))", "r.Token = request.TokenOf(after)")},
	Tests:   tests("redis", "TestTheTokenOfAReplicasAnswerIsAsNewAsTheAnswer"),
}, {
	Name:    "old-cache",
	Rule:    "a value of the cache is at most 1.2 s old",
	Changes: []Change{in("replica/readers.go", "cacheTrust = 1200 * time.Millisecond", "cacheTrust = 20 * time.Second")},
	Tests:   tests("redis", "TestAValueIsNotTrustedWhenItsOwnConnectionHangs"),
}, {
	Name:    "cache-without-master",
	Rule:    "the cache is trusted as long as its master is heard as one",
	Changes: []Change{in("discovery/monitor.go", "return b.Master == master && now.Sub(b.asked) < trust", "return b.Master == master || !now.IsZero()")},
	Tests:   tests("redis/discovery", "TestAMasterIsFreshWhileItAnswersAsOne"),
}, {
	Name:    "deaf-cache",
	Rule:    "a value that has changed is kept no longer",
	Changes: []Change{in("cache/cache.go", "if v := c.values[key]; v != nil {\n\t\t\tc.remove(v)", "if v := c.values[key]; v != nil && false {\n\t\t\tc.remove(v)")},
	Tests:   tests("redis/cache", "TestWhatHasChangedIsKeptNoLonger"),
}, {
	Name:    "cache-after-its-end",
	Rule:    "a cache whose connection has ended has nothing",
	Changes: []Change{in("cache/cache.go", "c.values, c.order, c.size, c.flights = nil, nil, 0, nil", "c.flights = nil")},
	Tests:   tests("redis/cache", "TestWhatHasChangedIsKeptNoLonger"),
}, {
	Name:    "expired-in-cache",
	Rule:    "a value is kept no longer than it lives at Redis",
	Changes: []Change{in("cache/cache.go", "if left >= 0 { // else", "if false { // else")},
	Tests:   tests("redis/cache", "TestAValueIsKeptAsLongAsItMayBe"),
}, {
	Name:    "foreign-cursor",
	Rule:    "a cursor is good at the process that gave it",
	Changes: []Change{in("rewrite/cursor.go", "case by == foreign, by == madeUp && !(whole && ofKey):", "case false:")},
	Tests:   tests("redis", "TestACursorOfAnotherProcessIsAnError"),
}}

// withoutWait are the rules for when a batch that only reads may go without WAIT (package ack),
// also on a connection other than the session's (readpipe).
var withoutWait = []Mutant{{
	Name:    "quick-writes",
	Rule:    "a batch that writes does not go without WAIT",
	Changes: []Change{in("ack/elision.go", "case n.Write || n.Async:", "case false:")},
	Tests:   tests("redis/ack", "TestWhichBatchesMayGoWithoutConfirmation"),
}, {
	Name:    "quick-beside-writes",
	Rule:    "nor one that earlier writes wait for",
	Changes: []Change{in("ack/elision.go", "case batch == 0 || waiting > 0:", "case batch == 0:")},
	Tests:   tests("redis/ack", "TestWhichBatchesMayGoWithoutConfirmation"),
}, {
	Name:    "quick-without-proof",
	Rule:    "nor one without a proof that is young enough",
	Changes: []Change{in("ack/elision.go", "|| s.Now.Sub(s.Proven) >= ProofEvery || s.Now.Sub(e.Heard)", "|| s.Now.Sub(e.Heard)")},
	Tests:   tests("redis/ack", "TestWhichBatchesMayGoWithoutConfirmation"),
}, {
	Name:    "quick-after-a-stall",
	Rule:    "nor one to a master that has not been heard for 30 ms",
	Changes: []Change{in("ack/elision.go", "const MaxResponseGap = 30 * time.Millisecond", "const MaxResponseGap = 20 * time.Second")},
	Tests:   tests("redis/ack", "TestTheTimesOfTrustAreShortEnough"),
}, {
	Name:    "quick-out-of-sync",
	Rule:    "nor where some node is not in sync",
	Changes: []Change{in("ack/elision.go", "s.Others == 0 || s.Others < s.MinAcks || s.NeedsOffset():", "false:")},
	Tests:   tests("redis/ack", "TestWhichBatchesMayGoWithoutConfirmation"),
}, {
	Name:    "quick-deserted",
	Rule:    "a master that has lost a replica may have been replaced",
	Changes: []Change{in("ack/elision.go", "eligible := e.eligible && role.Master && role.Online >= others", "eligible := e.eligible && role.Master")},
	Tests:   tests("redis/ack", "TestWhenAReadNeedsNoConfirmation"),
}, {
	Name:    "quick-ahead",
	Rule:    "every other node has what the batch has seen",
	Changes: []Change{in("ack/elision.go", "case role.Offset <= e.covered:", "case true:")},
	Tests:   tests("redis", "TestReadsSeeAnothersWriteOnlyWhenTheReplicasHaveIt"),
}, {
	Name:    "quick-stranger",
	Rule:    "a node's offset counts when it follows this master",
	Changes: []Change{in("election/snapshot.go", "|| !n.Linked || n.Follows != master {", "|| !n.Linked {")},
	Tests:   tests("redis/election", "TestWhatTheOtherNodesHaveInCommon"),
}, {
	Name:    "quick-after-a-stall-in-flight",
	Rule:    "what stalled while the batch was under way is confirmed",
	Changes: []Change{in("commit/session.go", "if ended != nil || stalled || !s.covered(", "if ended != nil || stalled && false || !s.covered(")},
	Tests:   tests("redis", "TestAMasterThatStallsAnswersNoReadsWithoutConfirmation"),
}, {
	Name:    "lease-for-ever",
	Rule:    "a read lease rests on a proof that is young enough",
	Changes: []Change{in("ack/elision.go", "now.Sub(l.Proven) < age &&", "true &&")},
	Tests:   tests("redis/commit", "TestAReadLeaseIsValidWhileItsProofIsYoungAndItsMasterHeard"),
}, {
	Name:    "lease-of-the-unheard",
	Rule:    "and on a master that was heard within 30 ms",
	Changes: []Change{in("ack/elision.go", "&& gap < MaxResponseGap", "&& true")},
	Tests:   tests("redis/commit", "TestAReadLeaseIsValidWhileItsProofIsYoungAndItsMasterHeard"),
}, {
	Name:    "lease-revoked",
	Rule:    "and on nothing that spoke against it",
	Changes: []Change{in("commit/read_lease.go", "return !l.Revoked.Load() && l.ReadLease.Valid", "return l.ReadLease.Valid")},
	Tests:   tests("redis/commit", "TestAReadLeaseIsValidWhileItsProofIsYoungAndItsMasterHeard"),
}, {
	Name:    "express-ahead",
	Rule:    "a lane shows nothing that some replica does not have",
	Changes: []Change{in("ack/elision.go", "&& role.Offset <= l.Covered", "")},
	Tests:   tests("redis/commit", "TestAReadLeaseIsBorneOutByTheMastersRoleBehindABatch"),
}, {
	Name:    "express-deserted",
	Rule:    "a lane's master has every replica that could be promoted",
	Changes: []Change{in("ack/elision.go", "&& role.Online >= l.Others &&", "&&")},
	Tests:   tests("redis/commit", "TestAReadLeaseIsBorneOutByTheMastersRoleBehindABatch"),
}, {
	Name:    "express-of-no-master",
	Rule:    "a lane's master is one, by its own word and everybody's",
	Changes: []Change{in("ack/elision.go", "case !role.Master || !stands:", "case false:")},
	Tests:   tests("redis/commit", "TestAReadLeaseIsBorneOutByTheMastersRoleBehindABatch"),
}, {
	Name:    "express-late",
	Rule:    "a lane's answer that comes late does not count",
	Changes: []Change{in("readpipe/express.go", "if !p.Valid(now, ack.ProofAge, x.heard) {", "if false {")},
	Tests:   tests("redis", "TestAnAnswerThatComesLateDoesNotCount"),
}, {
	Name:    "express-of-the-last-session",
	Rule:    "a lane ends with its session",
	Changes: []Change{in("readpipe/express.go", "if p == nil || p.Session != x.session {", "if p == nil {")},
	Tests:   tests("redis/readpipe", "TestALaneIsAnsweredByTheLeaseOfItsOwnSession"),
}, {
	Name:    "express-elsewhere",
	Rule:    "a lane leads to the process that is written to",
	Changes: []Change{in("conn/enter.go", "if err == nil && found != process {", "if false && found != process {")},
	Tests:   tests("redis", "TestAnExpressGoesToTheProcessThatIsWrittenTo"),
}, {
	Name:    "express-writes",
	Rule:    "a lane takes what only reads, and from the master",
	Changes: []Change{in("readpipe/express.go", "len(r.Commands) == 1 && spec.Fast && len(r.Commands[0]) <= command.BriefWords && r.Read == request.ReadMaster", "len(r.Commands) == 1")},
	Tests:   tests("redis", "TestAnExpressTakesWhatOnlyReadsAndIsSwift"),
}, {
	Name:    "lease-kept",
	Rule:    "a session that may not go without WAIT any more takes its read lease back",
	Changes: []Change{in("commit/read_lease.go", "default:\n\t\ts.w.readLease.Store(nil)", "default:")},
	Tests:   tests("redis/commit", "TestASessionThatNeedsConfirmationTakesItsReadLeaseBack"),
}}
