package mutants

// Table is every mutant, in the order of what it breaks: what is acknowledged, what
// is read, what is sent again, who is the master, and who may start as one.
var Table = concat(acknowledging, reading, withoutWait, repeating, remembering, electing, starting, balancing)

func concat(parts ...[]Mutant) (all []Mutant) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// in is a change of a file of package redis.
func in(file, old, new string) Change { return Change{"internal/redis/" + file, old, new} }

// at is a change of a file anywhere below internal.
func at(file, old, new string) Change { return Change{"internal/" + file, old, new} }

// tests are tests of a package below internal.
func tests(pkg, run string) Tests { return Tests{"./internal/" + pkg, run} }

// acknowledging are the rules by which a write is acknowledged (session.go,
// insync.go).
var acknowledging = []Mutant{{
	Name:    "ack-before-wait",
	Rule:    "a write is acknowledged when the replicas have it",
	Changes: []Change{in("session.go", "s.answer(func(o *operation) bool { return o.writes && o.async || o.state.Load() == finished })", "s.answer(all)")},
	Fault:   "kill-stalled-master", Found: []string{"lost write"},
}, {
	Name:    "ack-without-replica",
	Rule:    "a write that fewer than the least number of replicas have is not acknowledged, whoever else is answered",
	Changes: []Change{in("session.go", "return !o.writes || acks >= s.w.cfg.MinAcks })", "return true })")},
	Tests:   tests("redis", "TestReadsGoOnWithoutAnyReplica"),
}, {
	Name:    "ack-in-doubt",
	Rule:    "where a replica has not confirmed, a majority of Sentinels has to stand by the master",
	Changes: []Change{in("session.go", "if !now.certain() {\n\t\t\ts.pause", "if false {\n\t\t\ts.pause")},
	Tests:   tests("redis", "TestNoReplicaIsGivenUpWithoutAMajorityOfSentinels"),
}, {
	Name:    "ack-of-a-stranger",
	Rule:    "who has confirmed matters, and not how many",
	Changes: []Change{in("session.go", "if !s.agreed(now) {", "if false {")},
	Tests:   tests("redis", "TestOneReplicaMayDieOrHang"),
}, {
	Name:    "ack-of-a-replaced-master",
	Rule:    "where a replica has not confirmed, the nodes are asked whether this is still the master",
	Covered: "a session ends when another node is the master",
	Changes: []Change{in("follow.go", "late = t.C\n\t\tdefault:\n\t\t\treturn", "late = t.C\n\t\tdefault:"), in("session.go", "if now.master != s.master {\n\t\t\treturn fmt.Errorf(\"%w: %d", "if false {\n\t\t\treturn fmt.Errorf(\"%w: %d")},
	Tests:   tests("redis", "TestFailoverLosesNoAcknowledgedWrite"),
}, {
	Name:    "short-doubt",
	Rule:    "a silent replica is waited for as long as the Sentinels may take to promote it",
	Changes: []Change{in("insync.go", "limit = now.downAfter + doubtMargin(now.downAfter)", "limit += 0")},
	Tests:   tests("redis", "TestASilentReplicaIsWaitedForAsLongAsItMayBePromoted"),
}, {
	Name:    "no-doubt-margin",
	Rule:    "and a little longer: a Sentinel looks once a ping and acts at a tick",
	Changes: []Change{in("insync.go", "return min(downAfter, time.Second) + 200*time.Millisecond", "return 0")},
	Tests:   tests("redis", "TestASilentReplicaIsWaitedForAsLongAsItMayBePromoted"),
}, {
	Name:    "lacking-is-enough",
	Rule:    "a replica has confirmed when it has the offset of the write",
	Changes: []Change{in("insync.go", "func(r replicaView) bool { return r.offset >= s.offset })", "func(r replicaView) bool { return true })")},
	Tests:   tests("redis", "TestEveryReplicaInSyncHasToConfirm"),
}, {
	Name:    "unasked-is-enough",
	Rule:    "without the offset nobody has confirmed",
	Changes: []Change{in("insync.go", "return len(among) == 0 // else", "return true // else")},
	Tests:   tests("redis", "TestWithoutTheOffsetNobodyHasConfirmed"),
}, {
	Name:    "behind-at-once",
	Rule:    "a replica that was behind is in sync again when it has what the master had",
	Changes: []Change{in("insync.go", "r.offset >= away.offset && time.Now().After(away.until)", "time.Now().After(away.until)")},
	Tests:   tests("redis", "TestAReplicaThatHasJustComeJoinsLater"),
}, {
	Name:    "one-strike",
	Rule:    "a replica that is slow again and again stays away longer each time",
	Changes: []Change{in("insync.go", "min(strikes+1, maxStrikes)", "0")},
	Tests:   tests("redis", "TestASlowReplicaLeavesSoonAndComesBackLater"),
}, {
	Name:    "newcomer-in-sync",
	Rule:    "a replica that has just come is not in sync yet",
	Changes: []Change{in("insync.go", "!ok && s.expect > 0 {", "!ok && s.expect < 0 {")},
	Tests:   tests("redis", "TestAReplicaThatHasJustComeJoinsLater"),
}}

// reading are the rules by which a read is answered by the master, a replica, or
// from the cache.
var reading = []Mutant{{
	Name:    "old-proof",
	Rule:    "an answer rests on a proof that the replicas follow this master, which is at most 150 ms old",
	Changes: []Change{in("session.go", "proofAge   = 150 * time.Millisecond", "proofAge   = 20 * time.Second")},
	Tests:   tests("redis", "TestACutOffMasterAnswersNoReads"),
}, {
	Name:    "proof-of-none",
	Rule:    "a proof is one when every in-sync replica has confirmed it",
	Covered: "every other node has what the batch has seen",
	Changes: []Change{in("quick.go", "case role.Offset <= q.shared:", "case true:"), in("session.go", "err == nil && fences > 0 && acks > 0 && int(acks) >= s.expect {", "fences > 0 {")},
	Tests:   tests("redis", "TestACutOffMasterAnswersNoReads"),
}, {
	Name:    "read-what-no-replica-has",
	Rule:    "what a read shows is on the replicas",
	Covered: "who has confirmed matters, and not how many",
	Changes: []Change{in("session.go", "if !s.agreed(now) {", "if false {"), in("session.go", "return max(s.expect, min(s.w.cfg.MinAcks, s.w.monitor.short.Load().online))", "return 0")},
	Tests:   tests("redis", "TestReadsSeeAnothersWriteOnlyWhenTheReplicasHaveIt"),
}, {
	Name:    "replica-as-master",
	Rule:    "who asks for the newest value is answered by the master",
	Changes: []Change{in("client.go", "if !o.writes && !o.local && r.Read != ReadMaster {", "if r.MaxLag = 1 << 40; !o.writes {")},
	Fault:   "slow-link", Found: []string{"stale read", "not linearizable"},
}, {
	Name:    "old-replica",
	Rule:    "a replica's answer is no older than was asked for",
	Changes: []Change{in("readers.go", "if !known || age > limit {", "if !known {")},
	Fault:   "slow-link", Found: []string{"stale read"},
}, {
	Name:    "token-forgotten",
	Rule:    "a replica that lacks what the token stands for does not answer",
	Changes: []Change{in("readers.go", "|| !standing.Linked || standing.Offset < after {", "|| !standing.Linked {")},
	Tests:   tests("redis", "TestTheTokenOfAReplicasAnswerIsAsNewAsTheAnswer"),
}, {
	Name:    "token-of-before",
	Rule:    "the token of a replica's answer is as new as the answer",
	Changes: []Change{in("readers.go", "r.Token = tokenOf(max(after, standing.Offset))", "r.Token = tokenOf(after)")},
	Tests:   tests("redis", "TestTheTokenOfAReplicasAnswerIsAsNewAsTheAnswer"),
}, {
	Name:    "old-cache",
	Rule:    "a value of the cache is at most 1.2 s old",
	Changes: []Change{in("readers.go", "cacheTrust = 1200 * time.Millisecond", "cacheTrust = 20 * time.Second")},
	Tests:   tests("redis", "TestAValueIsNotTrustedWhenItsOwnConnectionHangs"),
}, {
	Name:    "cache-without-master",
	Rule:    "the cache is trusted as long as its master is heard as one",
	Changes: []Change{in("monitor.go", "return b.master == master && now.Sub(b.asked) < cacheTrust", "return b.master == master || !now.IsZero()")},
	Tests:   tests("redis", "TestAValueIsTrustedAsLongAsItsMasterIsHeard"),
}, {
	Name:    "deaf-cache",
	Rule:    "a value that has changed is kept no longer",
	Changes: []Change{in("cache.go", "if v := c.values[key]; v != nil {\n\t\t\tc.remove(v)", "if v := c.values[key]; v != nil && false {\n\t\t\tc.remove(v)")},
	Tests:   tests("redis", "TestWhatHasChangedIsKeptNoLonger|TestACachedValueFollowsItsChanges"),
}, {
	Name:    "cache-after-its-end",
	Rule:    "a cache whose connection has ended has nothing",
	Changes: []Change{in("cache.go", "c.values, c.order, c.size, c.flights = nil, nil, 0, nil", "c.flights = nil")},
	Tests:   tests("redis", "TestWhatHasChangedIsKeptNoLonger"),
}, {
	Name:    "expired-in-cache",
	Rule:    "a value is kept no longer than it lives at Redis",
	Changes: []Change{in("cache.go", "if left >= 0 { // else", "if false { // else")},
	Tests:   tests("redis", "TestAValueIsKeptAsLongAsItMayBe"),
}, {
	Name:    "foreign-cursor",
	Rule:    "a cursor is good at the process that gave it",
	Changes: []Change{in("cursor.go", "case by == foreign, by == madeUp && !(whole && ofKey):", "case false:")},
	Tests:   tests("redis", "TestACursorOfAnotherProcessIsAnError"),
}}

// withoutWait are the rules by which a batch that only reads goes without WAIT
// (quick.go), also on a connection beside the session's (express.go).
var withoutWait = []Mutant{{
	Name:    "quick-writes",
	Rule:    "a batch that writes does not go without WAIT",
	Changes: []Change{in("quick.go", "if o.writes {\n\t\t\treturn false", "if o.writes {\n\t\t\tcontinue")},
	Tests:   tests("redis", "TestWhichBatchesMayGoWithoutConfirmation"),
}, {
	Name:    "quick-without-proof",
	Rule:    "nor one without a proof that is young enough",
	Changes: []Change{in("quick.go", "|| time.Since(s.proven) >= proofEvery || time.Since(s.quick.heard)", "|| time.Since(s.quick.heard)")},
	Tests:   tests("redis", "TestWhichBatchesMayGoWithoutConfirmation"),
}, {
	Name:    "quick-after-a-stall",
	Rule:    "nor one to a master that has not been heard for 30 ms",
	Changes: []Change{in("quick.go", "const lately = 30 * time.Millisecond", "const lately = 20 * time.Second")},
	Tests:   tests("redis", "TestTheTimesOfTrustAreShortEnough"),
}, {
	Name:    "quick-out-of-sync",
	Rule:    "nor where some node is not in sync",
	Changes: []Change{in("quick.go", "others < s.w.cfg.MinAcks || s.expect < others || !s.missed.IsZero():", "false:")},
	Tests:   tests("redis", "TestWhichBatchesMayGoWithoutConfirmation"),
}, {
	Name:    "quick-deserted",
	Rule:    "a master that has lost a replica may have been replaced",
	Changes: []Change{in("quick.go", "calm := q.calm && role.Master && replicas >= others", "calm := q.calm && role.Master")},
	Tests:   tests("redis", "TestWhenAReadNeedsNoConfirmation"),
}, {
	Name:    "quick-ahead",
	Rule:    "every other node has what the batch has seen",
	Changes: []Change{in("quick.go", "case role.Offset <= q.shared:", "case true:")},
	Tests:   tests("redis", "TestReadsSeeAnothersWriteOnlyWhenTheReplicasHaveIt"),
}, {
	Name:    "quick-stranger",
	Rule:    "a node's offset counts when it follows this master",
	Changes: []Change{in("quick.go", "|| !n.linked || n.follows != master {", "|| !n.linked {")},
	Tests:   tests("redis", "TestWhatTheOtherNodesHaveInCommon"),
}, {
	Name:    "quick-after-a-stall-in-flight",
	Rule:    "what stalled while the batch was under way is confirmed",
	Changes: []Change{in("session.go", "if ended != nil || stalled || !s.lasts(", "if ended != nil || stalled && false || !s.lasts(")},
	Tests:   tests("redis", "TestAMasterThatStallsAnswersNoReadsWithoutConfirmation"),
}, {
	Name:    "permit-for-ever",
	Rule:    "a permit rests on a proof that is young enough",
	Changes: []Change{in("express.go", "now.Sub(p.proven) < age &&", "true &&")},
	Tests:   tests("redis", "TestAPermitHoldsWhileItsProofIsYoungAndItsMasterHeard"),
}, {
	Name:    "permit-of-the-unheard",
	Rule:    "and on a master that was heard within 30 ms",
	Changes: []Change{in("express.go", "int64(now.Sub(birth))-heard < int64(lately))", "true)")},
	Tests:   tests("redis", "TestAPermitHoldsWhileItsProofIsYoungAndItsMasterHeard"),
}, {
	Name:    "permit-revoked",
	Rule:    "and on nothing that spoke against it",
	Changes: []Change{in("express.go", "return !p.revoked.Load() && (p.alone", "return (p.alone")},
	Tests:   tests("redis", "TestAPermitHoldsWhileItsProofIsYoungAndItsMasterHeard"),
}, {
	Name:    "express-ahead",
	Rule:    "a lane shows nothing that some replica does not have",
	Changes: []Change{in("express.go", "&& standing.Offset <= p.shared", "")},
	Tests:   tests("redis", "TestAPermitIsBorneOutByTheMastersWordBehindABatch"),
}, {
	Name:    "express-deserted",
	Rule:    "a lane's master has every replica that could be promoted",
	Changes: []Change{in("express.go", "&& online >= p.others &&", "&&")},
	Tests:   tests("redis", "TestAPermitIsBorneOutByTheMastersWordBehindABatch"),
}, {
	Name:    "express-of-no-master",
	Rule:    "a lane's master is one, by its own word and everybody's",
	Changes: []Change{in("express.go", "case !standing.Master || now.master != p.session.master:", "case now == nil:")},
	Tests:   tests("redis", "TestAPermitIsBorneOutByTheMastersWordBehindABatch"),
}, {
	Name:    "express-late",
	Rule:    "a lane's answer that comes late does not count",
	Changes: []Change{in("express.go", "if !p.holds(now, proofAge, x.heard) {", "if false {")},
	Tests:   tests("redis", "TestAnAnswerThatComesLateDoesNotCount"),
}, {
	Name:    "express-of-the-last-session",
	Rule:    "a lane ends with its session",
	Changes: []Change{in("express.go", "if p == nil || p.session != x.session {", "if p == nil {")},
	Tests:   tests("redis", "TestAnExpressEndsWithItsSession"),
}, {
	Name:    "express-elsewhere",
	Rule:    "a lane leads to the process that is written to",
	Changes: []Change{in("express.go", "if err == nil && found != process {", "if false && found != process {")},
	Tests:   tests("redis", "TestAnExpressGoesToTheProcessThatIsWrittenTo"),
}, {
	Name:    "express-writes",
	Rule:    "a lane takes what only reads, and from the master",
	Changes: []Change{in("express.go", "len(r.Commands) == 1 && spec.Swift && r.Read == ReadMaster", "len(r.Commands) == 1")},
	Tests:   tests("redis", "TestAnExpressTakesWhatOnlyReadsAndIsSwift"),
}, {
	Name:    "permit-kept",
	Rule:    "a session that may not go without WAIT any more takes its permit back",
	Changes: []Change{in("express.go", "default:\n\t\ts.w.permit.Store(nil)", "default:")},
	Tests:   tests("redis", "TestASessionThatIsNotCalmTakesItsPermitBack"),
}}

// repeating are the rules by which a request is sent again, and by which its
// client is told what became of it.
var repeating = []Mutant{{
	Name:    "write-again",
	Rule:    "a command whose answer was lost, and that writes without a record, is not sent again",
	Changes: []Change{in("operation.go", "case o.record == \"\" && gone:", "case false:")},
	Fault:   "kill-held-master", Found: []string{"wrong counter", "wrong set", "not linearizable", "impossible answer"},
}, {
	Name:    "script-again",
	Rule:    "nor is a script or a transaction",
	Changes: []Change{in("repeat.go", "if (!o.writes || o.record != \"\") && o.mayRepeat(silent) {", "if o.mayRepeat(silent) {")},
	Fault:   "kill-held-master", Found: []string{"wrong counter", "wrong set", "not linearizable", "impossible answer"},
}, {
	Name:    "half-again",
	Rule:    "of a pipeline that was carried out in part, each command is told its own",
	Changes: []Change{in("operation.go", "case o.record == \"\" && done:", "case false:")},
	Tests:   tests("redis", "TestCommandsOfEveryKindAreAnsweredInOrder"),
}, {
	Name:    "silenced-again",
	Rule:    "what may have silenced a node is not sent to the next one",
	Changes: []Change{in("repeat.go", "return o.brief && o.silences == 1", "return true")},
	Tests:   tests("redis", "TestWhatMayHaveSilencedAMasterIsNotSentToTheNext"),
}, {
	Name:    "unknown-is-no",
	Rule:    "what may have happened is never called not executed",
	Changes: []Change{in("operation.go", "case o.sent:\n\t\treturn &Error{Unknown, o.cause}", "case false:")},
	Tests:   tests("redis", "TestWhetherAnOperationIsRepeatedFollowsFromWhatItIs"),
}, {
	Name:    "given-up-is-no",
	Rule:    "nor a write that is given up while Redis has it",
	Changes: []Change{in("operation.go", "return &Error{Unknown, errNoAck}", "return &Error{NotExecuted, errNoAck}")},
	Tests:   tests("redis", "TestNoReplicaIsGivenUpWithoutAMajorityOfSentinels|TestNoReplicaNoAcknowledgement"),
}, {
	Name:    "refused-is-no",
	Rule:    "nor one that is refused after an attempt that may have happened",
	Changes: []Change{in("operation.go", "if o.sent {\n\t\treturn &Error{Unknown, cause}", "if false {\n\t\treturn &Error{Unknown, cause}")},
	Tests:   tests("redis", "TestARefusalAfterALostAttemptIsUnknown"),
}, {
	Name:    "lost-is-read",
	Rule:    "a write whose answer is lost is no read that is given up",
	Changes: []Change{in("repeat.go", "if o.sent {\n\t\treturn &Error{Unknown, cause}", "if false {\n\t\treturn &Error{Unknown, cause}")},
	Tests:   tests("redis", "TestWhatMayHaveSilencedAMasterIsNotSentToTheNext|TestWhetherAnOperationIsRepeatedFollowsFromWhatItIs"),
}, {
	Name:    "lost-is-unsent",
	Rule:    "what has left for Redis and has no answer may have happened",
	Changes: []Change{in("errors.go", "if !sent {\n\t\treturn retry\n\t}\n\treturn lost", "return retry")},
	Fault:   "kill-held-master", Found: []string{"wrong counter", "wrong set", "not linearizable", "impossible answer"},
}, {
	Name:    "sent-is-unsent",
	Rule:    "what was sent is told by the connection's own count",
	Changes: []Change{in("session.go", "return answers, s.wire.seal() > mark", "return answers, s.wire.seal() < mark")},
	Fault:   "kill-held-master", Found: []string{"wrong counter", "wrong set", "not linearizable", "impossible answer"},
}, {
	Name:    "sends-after-its-end",
	Rule:    "a connection whose end was seen sends nothing more",
	Changes: []Change{in("link.go", "case <-w.ended:\n\t\treturn 0, errNotSent", "case <-w.ended:")},
	Tests:   tests("redis", "TestAWireSendsNothingAfterItsEnd"),
}, {
	Name:    "script-words",
	Rule:    "an error that a script words like Redis' own comes after it has written",
	Changes: []Change{in("errors.go", "return strings.HasPrefix(rest, begin) ||", "return true ||")},
	Tests:   tests("redis", "TestAScriptsOwnErrorIsNotTakenForTheNodes"),
}, {
	Name:    "multi-refused",
	Rule:    "where MULTI was refused the commands were carried out one by one",
	Changes: []Change{in("operation.go", "if answers[0].Error() == nil {\n\t\treturn true", "if true {\n\t\treturn true")},
	Tests:   tests("redis", "TestATransactionWhoseMultiWasRefusedIsUnknown"),
}, {
	Name:    "sent-too-late",
	Rule:    "a write is not sent after its time",
	Changes: []Change{in("writer.go", "if !w.ended && now.After(o.until) {", "if false {")},
	Tests:   tests("redis", "TestAWriteIsNotSentAfterItsTime"),
}, {
	Name:    "no-time-of-arrival",
	Rule:    "a request that waited for more than 20 s in a node that hung is not carried out",
	Changes: []Change{at("web/trust.go", "maxAge         = 20 * time.Second", "maxAge         = time.Hour")},
	Tests:   tests("web", "TestAWriteThatWaitedForAHungNodeIsNotExecuted"),
}}

// remembering are the rules by which a repetition counts once.
var remembering = []Mutant{{
	Name:    "key-ignored",
	Rule:    "a request with a key that was carried out is answered from its record",
	Changes: []Change{in("client.go", `if o.writes && r.IdempotencyKey != "" {`, `if false {`)},
	Fault:   "kill-held-web", Found: []string{"wrong counter", "wrong set"},
}, {
	Name:    "record-overwritten",
	Rule:    "a record that is there is not made again (single commands)",
	Changes: []Change{in("script.go", "local first = not mine[rec] and redis.pcall('SET', rec, '', 'NX', 'PX', ttl)", "local first = not mine[rec] and redis.pcall('SET', rec, '', 'PX', ttl)")},
	Tests:   tests("redis", "TestAnIdempotencyKeyMakesAWriteHappenOnce|TestARepetitionGetsTheFirstAnswerAndChangesNothing"),
}, {
	Name:    "record-overwritten-by-a-script",
	Rule:    "the same of scripts",
	Changes: []Change{in("script.go", "local first = redis.pcall('SET', rec, '', 'NX', 'PX', ttl)\n  if not", "local first = redis.pcall('SET', rec, '', 'PX', ttl)\n  if not")},
	Tests:   tests("redis", "TestARepetitionGetsTheFirstAnswerAndChangesNothing"),
}, {
	Name:    "twice-in-one-batch",
	Rule:    "the same key twice in one batch counts once",
	Changes: []Change{in("script.go", "mine[rec], place[i] = i, at", "place[i] = at")},
	Tests:   tests("redis", "TestAnIdempotencyKeyMakesAWriteHappenOnce|TestManyAtOnceGetTheirOwnAnswers"),
}, {
	Name:    "repetition-without-write",
	Rule:    "a repetition waits until the replicas have the first attempt",
	Changes: []Change{in("script.go", "local r = redis.pcall('PEXPIRE', rec, ttl)", "local r = 1")},
	Tests:   tests("redis", "TestARepetitionWaitsForTheFirstAttempt"),
}, {
	Name:    "short-memory",
	Rule:    "a key is remembered for longer than a write is tried",
	Changes: []Change{in("client.go", "max(30*time.Second, 6*c.Hold)", "5*time.Second")},
	Tests:   tests("redis", "TestAWriteIsRememberedLongerThanItIsTried"),
}, {
	Name:    "one-record-for-all",
	Rule:    "another request with the same key is not answered from its record",
	Changes: []Change{in("script.go", "for _, cmd := range r.Commands {\n\t\tpart(\"\")", "for _, cmd := range r.Commands[:0] {\n\t\tpart(\"\")")},
	Tests:   tests("redis", "TestAnIdempotencyKeyMakesAWriteHappenOnce|TestARepetitionGetsTheFirstAnswerAndChangesNothing"),
}, {
	Name:    "whole-again",
	Rule:    "a transaction with a key counts once",
	Changes: []Change{in("transaction.go", "if kept then\n  local gone", "if false then\n  local gone")},
	Tests:   tests("redis", "TestATransactionWithAKeyAnswersAsOneWithout|TestAnAnswerOutlivesTheMasterThatGaveIt"),
}, {
	Name:    "guarded-again",
	Rule:    "so does what a script of ours cannot carry out",
	Changes: []Change{in("guard.go", "if kept, err := answers[get].AsBytes(); err == nil {", "if kept, err := answers[get].AsBytes(); err == nil && false {")},
	Tests:   tests("redis", "TestARepetitionGetsTheFirstAnswerAndChangesNothing"),
}, {
	Name:    "guarded-unwatched",
	Rule:    "also where two attempts come at the same time",
	Changes: []Change{in("guard.go", "b.Watch().Key(record).Build(), b.Get()", "b.Get().Key(record).Build(), b.Get()")},
	Tests:   tests("redis", "TestARepetitionGetsTheFirstAnswerAndChangesNothing"),
}}

// electing are the rules by which a web node holds a node for the master.
var electing = []Mutant{{
	Name:    "minority-of-sentinels",
	Rule:    "more than half of all Sentinels name the master",
	Changes: []Change{in("decide.go", "votes[named] > len(sentinels)/2 {", "votes[named] > 0 {")},
	Tests:   tests("redis", "TestDecide"),
}, {
	Name:    "old-claim",
	Rule:    "a node that the Sentinels' newer word contradicts is no master",
	Changes: []Change{in("decide.go", "case claim.since > v.namedSince:", "case true:")},
	Tests:   tests("redis", "TestDecide"),
}, {
	Name:    "unheard-claim",
	Rule:    "with no majority of Sentinels a node's own word is not enough",
	Changes: []Change{in("decide.go", "case named == \"\" && followed(v.nodes, claim.addr):", "case named == \"\":")},
	Tests:   tests("redis", "TestDecide"),
}, {
	Name:    "first-of-several",
	Rule:    "of several that claim it the Sentinels' majority decides",
	Changes: []Change{in("decide.go", "if c.addr != named {\n\t\t\tcontinue", "if false {\n\t\t\tcontinue")},
	Tests:   tests("redis", "TestDecide"),
}, {
	Name:    "promoted-later",
	Rule:    "unless another was promoted later",
	Changes: []Change{in("decide.go", "if other.since > c.since {", "if false {")},
	Tests:   tests("redis", "TestDecide"),
}, {
	Name:    "doubted",
	Rule:    "a master that a Sentinel holds for down is not certain",
	Changes: []Change{in("decide.go", "majority(s.sentinels) != \"\" && !s.doubted {", "majority(s.sentinels) != \"\" {")},
	Tests:   tests("redis", "TestCertain"),
}, {
	Name:    "uncertain",
	Rule:    "nor one that some node does not follow, where no majority speaks",
	Changes: []Change{in("decide.go", "case !n.answered || n.master || n.follows != s.master:", "case false:")},
	Tests:   tests("redis", "TestCertain"),
}, {
	Name:    "known-to-the-master-alone",
	Rule:    "nor one with a replica that only the master knows",
	Changes: []Change{in("decide.go", "return followers >= s.others() // also", "return true // also")},
	Tests:   tests("redis", "TestCertain"),
}, {
	Name:    "flags-unread",
	Rule:    "a Sentinel's flags say that it doubts the master",
	Changes: []Change{in("ask.go", "case \"s_down\", \"o_down\", \"failover_in_progress\":", "case \"none\":")},
	Tests:   tests("redis", "TestFailoverLosesNoAcknowledgedWrite"),
}, {
	Name:    "no-role-asked",
	Rule:    "a session begins with a node that says it is the master",
	Changes: []Change{in("follow.go", "if !standing.Master {\n\t\treturn", "if false {\n\t\treturn")},
	Tests:   tests("redis", "TestFailoverLosesNoAcknowledgedWrite"),
}, {
	Name:    "same-master-unasked",
	Rule:    "a new session with the same master begins with a round that is newer than the last one's end",
	Changes: []Change{in("follow.go", "if w.last == master {", "if false {")},
	Tests:   tests("redis", "TestFailoverLosesNoAcknowledgedWrite"),
}, {
	Name:    "uncertain-session",
	Rule:    "a session begins where nobody can have been promoted unheard",
	Changes: []Change{in("follow.go", "if !now.certain() {", "if false {")},
	Tests:   tests("redis", "TestNoReplicaIsGivenUpWithoutAMajorityOfSentinels"),
}, {
	Name:    "write-on-contradiction",
	Rule:    "nothing is sent while the evidence contradicts itself",
	Changes: []Change{in("follow.go", "if now.master != master {\n\t\t\t// Not one", "if false {\n\t\t\t// Not one")},
	Tests:   tests("redis", "TestFailoverLosesNoAcknowledgedWrite"),
}}

// starting are the supervisor's rules on who starts as the master.
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
	Changes: []Change{at("supervise/decide.go", "case c.Empty:\n\t\treturn start{Refused", "case false:\n\t\treturn start{Refused")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "empty-alone",
	Rule:    "nor does one without Sentinels",
	Changes: []Change{at("supervise/decide.go", "if c.Booted && c.Empty {", "if false {")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "empty-replica",
	Rule:    "a replica without data waits for somebody who could fill it",
	Changes: []Change{at("supervise/decide.go", "case name != c.Name && c.Booted && c.Empty && len(f.Standings) == 0:", "case false:")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "no-hold-back",
	Rule:    "a dead master is held back while the Sentinels promote a replica",
	Changes: []Change{at("supervise/decide.go", "case c.Dead < c.HoldBack:", "case false:")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "start-amid-failover",
	Rule:    "and while a failover is under way",
	Changes: []Change{at("supervise/decide.go", "case f.failing():", "case false:")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "second-master",
	Rule:    "nobody starts as master beside another",
	Changes: []Change{at("supervise/decide.go", "case f.otherMaster(c.Name) != \"\":", "case false:")},
	Tests:   tests("supervise", "TestARedisNodeStartsInThePartThatTheFactsGiveIt"),
}, {
	Name:    "starved-is-gone",
	Rule:    "a redis node that runs and does not answer is there",
	Changes: []Change{at("supervise/decide.go", "for name := range f.Running {\n\t\tif name != node {", "for name := range f.Running {\n\t\tif false {")},
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
	Changes: []Change{at("supervise/decide.go", "if s.Offset > named.Offset {", "if false {")},
	Tests:   tests("supervise", "TestOnlyTheKnownDeadlockIsMended"),
}, {
	Name:    "wedged-master",
	Rule:    "a node that hangs is killed beside a master that works, and the master never is",
	Changes: []Change{at("supervise/decide.go", "&& !f.Spoke[name] && name != master {", "&& !f.Spoke[name] {"), at("supervise/decide.go", "|| !f.Standings[master].Master {\n\t\treturn nil", "{\n\t\treturn nil")},
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
	Changes: []Change{at("supervise/master.go", "if !there || s.kept.Booted && (f.ConfigEpoch != r.ConfigEpoch || f.Address != s.nodes[r.Master].spec.Address) {", "if !there {")},
	Tests:   tests("supervise", "TestSentinelsThatHaveNotHeardOfTheLastFailoverDoNotDecide"),
}, {
	Name:    "new-stack-on-old-data",
	Rule:    "a state directory without its stack file is no new stack",
	Changes: []Change{at("supervise/master.go", "return !known && (len(s.dir.sentinelPaths()) > 0 || len(s.dir.redisWithData()) > 0)", "return false")},
	Tests:   tests("supervise", "TestAStateDirectoryWithoutItsStackFileIsNoNewStack"),
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

// balancing are what HAProxy, Redis and the Sentinels are told.
var balancing = []Mutant{{
	Name:    "no-key-of-the-balancer",
	Rule:    "a request that a balancer sends again has a key",
	Changes: []Change{at("plan/templates/haproxy.cfg.tmpl", "http-request set-header Holdfast-Attempt %[unique-id]", "http-request del-header Holdfast-Attempt")},
	Fault:   "kill-held-web", Found: []string{"wrong counter", "wrong set"},
}, {
	Name:    "unsafe-again",
	Rule:    "an application of the user's own gets a request twice only where that does no harm",
	Changes: []Change{at("plan/templates/haproxy.cfg.tmpl", "http-request disable-l7-retry unless { var(txn.again) -m bool }", "")},
	Tests:   tests("plan", "TestARequestIsSentAgainOnlyWhereThatIsSafe"),
}, {
	Name:    "last-word",
	Rule:    "a node's refusal does not speak for the try before it",
	Changes: []Change{at("plan/templates/haproxy.cfg.tmpl", "hdr Cache-Control no-store hdr Holdfast-Balancer {{$.Node}} if { status 503 } !{ res.hdr(Holdfast-Tries) 0 }", "hdr Cache-Control no-store hdr Holdfast-Balancer {{$.Node}} if { status 599 }")},
	Tests:   tests("plan", "TestANodesRefusalDoesNotSpeakForTheTryBeforeIt"),
}, {
	Name:    "died-is-no",
	Rule:    "a request that a node died with is not called unexecuted",
	Changes: []Change{at("plan/templates/haproxy.cfg.tmpl", "if { status 503 } { res.hdr(Holdfast-Tries) -m found } !{", "if { status 599 } !{")},
	Tests:   tests("plan", "TestARequestThatANodeDiedWithIsNotCalledUnexecuted"),
}}
