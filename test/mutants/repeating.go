package mutants

// repeating are the rules about when a request is sent again, and what its client is told about it.
var repeating = []Mutant{{
	Name:    "write-again",
	Rule:    "a command whose answer was lost, and that writes without a record, is not sent again",
	Changes: []Change{in("commit/read.go", "case o.Record == \"\" && gone:", "case false:")},
	Tests:   tests("redis/commit", "TestWhatBecomesOfAnOperationFollowsFromItsAnswers"),
}, {
	Name:    "script-again",
	Rule:    "nor is a script or a transaction",
	Changes: []Change{in("operation/repeat.go", "if (!o.Writes || o.Record != \"\") && o.MayRepeat(l) {", "if o.MayRepeat(l) {")},
	Fault:   "kill-held-master", Found: []string{"wrong counter", "wrong set", "not linearizable", "impossible answer"},
}, {
	Name:    "half-again",
	Rule:    "of a pipeline that was carried out in part, each command is told its own",
	Changes: []Change{in("commit/read.go", "case o.Record == \"\" && done:", "case false:")},
	Tests:   tests("redis/commit", "TestWhatBecomesOfAnOperationFollowsFromItsAnswers"),
}, {
	Name:    "silenced-again",
	Rule:    "what may have silenced a node is not sent to the next one",
	Changes: []Change{in("operation/repeat.go", "return o.Brief && o.Silences == 1", "return true")},
	Tests:   tests("redis", "TestWhatMayHaveSilencedAMasterIsNotSentToTheNext"),
}, {
	Name:    "replaced-though-silent",
	Rule:    "nor is it where the node was replaced because it was silent",
	Changes: []Change{in("commit/silence.go", " && node.SilentAt.Before(s.began)", "")},
	Tests:   tests("redis/commit", "TestANodeThatIsReplacedAndRepliesWasNotSilent"),
}, {
	Name:    "unknown-is-no",
	Rule:    "what may have happened is never called not executed",
	Changes: []Change{in("operation/operation.go", "case o.Sent:\n\t\treturn &outcome.Error{Kind: outcome.Unknown, Cause: o.Cause}", "case false:")},
	Tests:   tests("redis/operation", "TestARefusalAfterALostAttemptIsUnknown"),
}, {
	Name:    "given-up-is-no",
	Rule:    "nor a write that is given up while Redis has it",
	Changes: []Change{in("operation/operation.go", "return &outcome.Error{Kind: outcome.Unknown, Cause: errNoAck}", "return &outcome.Error{Kind: outcome.NotExecuted, Cause: errNoAck}")},
	Tests:   tests("redis", "TestNoReplicaIsGivenUpWithoutAMajorityOfSentinels|TestNoReplicaNoAcknowledgement"),
}, {
	Name:    "refused-is-no",
	Rule:    "nor one that is refused after an attempt that may have happened",
	Changes: []Change{in("operation/operation.go", "if o.Sent {\n\t\treturn &outcome.Error{Kind: outcome.Unknown, Cause: cause}", "if false {\n\t\treturn &outcome.Error{Kind: outcome.Unknown, Cause: cause}")},
	Tests:   tests("redis/operation", "TestARefusalAfterALostAttemptIsUnknown"),
}, {
	Name:    "lost-is-read",
	Rule:    "a write whose answer is lost is no read that is given up",
	Changes: []Change{in("operation/repeat.go", "case o.Sent:\n\t\treturn &outcome.Error{Kind: outcome.Unknown, Cause: cause}", "case false:\n\t\treturn &outcome.Error{Kind: outcome.Unknown, Cause: cause}")},
	Tests:   tests("redis/operation", "TestWhetherAnOperationIsRepeatedFollowsFromWhatItIs"),
}, {
	Name:    "lost-is-unsent",
	Rule:    "what has left for Redis and has no answer may have happened",
	Changes: []Change{in("outcome/errors.go", "if !sent {\n\t\treturn Later\n\t}\n\treturn Lost", "return Later")},
	Tests:   tests("redis/commit", "TestWhatBecomesOfAnOperationFollowsFromItsAnswers"),
}, {
	Name:    "sent-is-unsent",
	Rule:    "what was sent is told by the connection's own count",
	Changes: []Change{in("commit/session.go", "return answers, s.wire.Seal() > mark", "return answers, s.wire.Seal() < mark")},
	Tests:   tests("redis", "TestAWriteWhoseAnswerIsCutOffIsSentOnce"),
}, {
	Name:    "sends-after-its-end",
	Rule:    "a connection whose end was seen sends nothing more",
	Changes: []Change{in("conn/client.go", "case <-w.Ended:\n\t\treturn 0, outcome.ErrNotSent", "case <-w.Ended:")},
	Tests:   tests("redis/conn", "TestAWireSendsNothingAfterItsEnd"),
}, {
	Name:    "script-words",
	Rule:    "an error that a script words like Redis' own comes after it has written",
	Changes: []Change{in("outcome/errors.go", "return strings.HasPrefix(rest, begin) ||", "return true ||")},
	Tests:   tests("redis", "TestAScriptsOwnErrorIsNotTakenForTheNodes"),
}, {
	Name:    "multi-refused",
	Rule:    "where MULTI was refused the commands were carried out one by one",
	Changes: []Change{in("operation/operation.go", "if answers[0].Error() == nil {\n\t\treturn true", "if true {\n\t\treturn true")},
	Tests:   tests("redis", "TestATransactionWhoseMultiWasRefusedIsUnknown"),
}, {
	Name:    "sent-too-late",
	Rule:    "a write is not sent after its time",
	Changes: []Change{in("commit/writer.go", "if !w.ended && now.After(o.Until) {", "if !w.ended && now.After(o.Until) && false {")},
	Tests:   tests("redis/commit", "TestAWriteIsNotSentAfterItsTime"),
}, {
	Name:    "no-time-of-arrival",
	Rule:    "a request that waited for more than 20 s in a node that hung is not carried out",
	Changes: []Change{at("web/consistency/once.go", "maxAge         = 20 * time.Second", "maxAge         = time.Hour")},
	Tests:   tests("web", "TestAWriteThatWaitedForAHungNodeIsNotExecuted"),
}, {
	Name:    "unknown-is-503",
	Rule:    "a client is told 504 of what may have happened, and 503 of what certainly did not",
	Changes: []Change{at("web/response/errors.go", "case redis.Unknown:\n\t\treturn fasthttp.StatusGatewayTimeout", "case redis.Unknown:\n\t\treturn fasthttp.StatusServiceUnavailable")},
	Tests:   tests("web", "TestErrorsOfTheStoreBecomeStatuses"),
}, {
	Name:    "balancers-key-ignored",
	Rule:    "the balancers' key makes a write happen once",
	Changes: []Change{at("web/consistency/once.go", "case w.Attempts > 0:", "case w.Attempts > 1000:")},
	Tests:   tests("web", "TestTheIdempotencyKeyReachesTheStore"),
}}

// remembering are the rules by which a repeated request counts only once.
var remembering = []Mutant{{
	Name:    "key-ignored",
	Rule:    "a request with a key that was carried out is answered from its record",
	Changes: []Change{in("operation/maker.go", `if o.Writes && r.IdempotencyKey != "" {`, `if false {`)},
	Fault:   "kill-held-web", Found: []string{"wrong counter", "wrong set"},
}, {
	Name:    "record-overwritten",
	Rule:    "a record that is there is not made again (single commands)",
	Changes: []Change{in("once/script.go", "local first = not mine[rec] and redis.pcall('SET', rec, '', 'NX', 'PX', ttl)", "local first = not mine[rec] and redis.pcall('SET', rec, '', 'PX', ttl)")},
	Tests:   tests("redis", "TestAnIdempotencyKeyMakesAWriteHappenOnce|TestARepetitionGetsTheFirstAnswerAndChangesNothing"),
}, {
	Name:    "records-of-sets-overwritten",
	Rule:    "records that are there are not made again (all SETs of a batch)",
	Changes: []Change{in("once/lists.go", "made = try('MSETNX', unpack(recs))", "made = try('MSET', unpack(recs)) and 1")},
	Tests:   tests("redis", "TestAPlainSetThroughABalancerHappensOnce"),
}, {
	Name:    "record-of-a-refused-set",
	Rule:    "a SET that is refused leaves no record",
	Changes: []Change{in("once/lists.go", "call('DEL', recs[2 * i - 1])", "call('EXISTS', recs[2 * i - 1])")},
	Tests:   tests("redis", "TestARefusedSetLeavesNoRecord"),
}, {
	Name:    "records-removed-early",
	Rule:    "records that are removed together have lived as long as one with a time to live",
	Changes: []Change{in("once/lists.go", "now-l.since < time.Duration(life)*time.Millisecond", "now-l.since < time.Duration(life)*time.Millisecond/4")},
	Tests:   tests("redis", "TestTheRecordsOfSetsAreRemovedInTimeByWhoeverIsThere"),
}, {
	Name:    "records-removed-by-another-life",
	Rule:    "a record lives for as long as the node says that made it, whoever removes it",
	Changes: []Change{in("once/lists.go", "now-l.since < time.Duration(life)*time.Millisecond", "life > 0 && now-l.since < c.attempts")},
	Tests:   tests("redis", "TestARecordLivesAsLongAsItsOwnNodeSays"),
}, {
	Name:    "written-list-removed",
	Rule:    "a list that was written since it was looked at is left",
	Changes: []Change{in("once/lists.go", "~= ARGV[5] then return {} end", "~= ARGV[5] and left < 0 then return {} end")},
	Tests:   tests("redis/once", "TestAListThatWasWrittenSinceTheLookIsLeft"),
}, {
	Name:    "record-overwritten-by-a-script",
	Rule:    "the same of scripts",
	Changes: []Change{in("once/script.go", "local first = redis.pcall('SET', rec, '', 'NX', 'PX', ttl)\n  if not", "local first = redis.pcall('SET', rec, '', 'PX', ttl)\n  if not")},
	Tests:   tests("redis", "TestAnIdempotencyKeyMakesAWriteHappenOnce"),
}, {
	Name:    "twice-in-one-batch",
	Rule:    "the same key twice in one batch counts once",
	Changes: []Change{in("once/script.go", "mine[rec], place[i] = i, at", "place[i] = at")},
	Tests:   tests("redis", "TestTheSameKeyTwiceInOneBatchCountsOnce"),
}, {
	Name:    "record-not-renewed",
	Rule:    "a record that was asked for again is remembered anew",
	Changes: []Change{in("once/script.go", "local r = redis.pcall('PEXPIRE', rec, ttl)", "local r = 1")},
	Tests:   tests("redis", "TestARepetitionIsRemembered"),
}, {
	Name:    "short-memory",
	Rule:    "a key is remembered for longer than a write is tried",
	Changes: []Change{in("config/config.go", "max(kvdefault.Remember, 6*c.Hold)", "5*time.Second")},
	Tests:   tests("redis/config", "TestAWriteIsRememberedLongerThanItIsTried"),
}, {
	Name:    "one-record-for-all",
	Rule:    "another request with the same key is not answered from its record",
	Changes: []Change{in("once/record.go", "for _, cmd := range r.Commands {\n\t\tpart(\"\")", "for _, cmd := range r.Commands[:0] {\n\t\tpart(\"\")")},
	Tests:   tests("redis", "TestAnIdempotencyKeyMakesAWriteHappenOnce|TestARepetitionGetsTheFirstAnswerAndChangesNothing"),
}, {
	Name:    "whole-again",
	Rule:    "a transaction with a key counts once",
	Changes: []Change{in("once/transaction.go", "if kept then\n  local gone", "if false then\n  local gone")},
	Tests:   tests("redis", "TestATransactionWithAKeyAnswersAsOneWithout|TestAnAnswerOutlivesTheMasterThatGaveIt"),
}, {
	Name:    "guarded-again",
	Rule:    "so does what a script of ours cannot carry out",
	Changes: []Change{in("commit/guard.go", "if kept, err := answers[get].AsBytes(); err == nil {", "if kept, err := answers[get].AsBytes(); err == nil && false {")},
	Tests:   tests("redis", "TestARepetitionGetsTheFirstAnswerAndChangesNothing"),
}, {
	Name:    "guarded-unwatched",
	Rule:    "also where two attempts come at the same time",
	Changes: []Change{in("commit/guard.go", "b.Watch().Key(record).Build(), b.Get()", "b.Get().Key(record).Build(), b.Get()")},
	Tests:   tests("redis", "TestTwoAttemptsAtOnceOfAScriptCountOnce"),
}}
