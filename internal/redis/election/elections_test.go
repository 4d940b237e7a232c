package election

import (
	"fmt"
	"testing"
	"time"
)

// told is a Sentinel's word: its id, the epochs of its configuration and its vote, and for
// whom it voted.
func told(id string, config, epoch int64, leader string) SentinelReply {
	return SentinelReply{Answered: true, Calm: true, ID: id, ConfigEpoch: config, Vote: Vote{epoch, leader}, FailoverTimeout: 2 * time.Second}
}

func TestAVoteThatIsNewerThanTheConfigurationIsAnOpenElection(t *testing.T) {
	var silent SentinelReply
	leads := told("1", 4, 5, "1")
	leads.Calm = false
	began := time.Now()
	at := func(after time.Duration, words ...SentinelReply) heardRound {
		return heardRound{began.Add(after), words}
	}
	for name, c := range map[string]struct {
		rounds []heardRound
		open   bool
	}{
		"nobody ever voted":             {[]heardRound{at(0, told("1", 0, 0, noLeader), told("2", 0, 0, noLeader), silent)}, false},
		"the vote became configuration": {[]heardRound{at(0, told("1", 5, 5, "3"), told("2", 5, 5, "3"), silent)}, false},
		"one has heard of the outcome":  {[]heardRound{at(0, told("1", 5, 5, "3"), told("2", 4, 5, "3"), silent)}, false},
		"the leader is silent":          {[]heardRound{at(0, told("1", 4, 5, "3"), told("2", 4, 5, "3"), silent)}, true},
		"one vote is enough":            {[]heardRound{at(0, told("1", 4, 5, "3"), told("2", 4, 4, "1"), silent)}, true},
		"the leader is at it":           {[]heardRound{at(0, leads, told("2", 4, 5, "1"), silent), at(time.Second, leads, told("2", 4, 5, "1"), silent)}, true},
		"the leader may have been asked before it began": {[]heardRound{
			at(0, told("1", 4, 4, "2"), told("2", 4, 5, "1"), silent),
		}, true},
		"the leader is not at it any more": {[]heardRound{
			at(0, told("1", 4, 5, "1"), told("2", 4, 5, "1"), silent), at(time.Second, told("1", 4, 5, "1"), told("2", 4, 5, "1"), silent),
		}, false},
		"nobody remembers the leader": {[]heardRound{
			at(0, told("1", 4, 5, noLeader), told("2", 4, 4, "1"), silent), at(time.Second, told("1", 4, 5, noLeader), told("2", 4, 4, "1"), silent),
		}, true},
		"nobody remembers the leader, and nobody is at it": {[]heardRound{
			at(0, told("1", 4, 5, noLeader), told("2", 4, 4, "1"), silent), at(time.Second, told("1", 4, 5, noLeader), told("2", 4, 4, "1"), told("3", 4, 4, "1")),
		}, false},
		"an older one, of which only the first round told, goes on": {[]heardRound{
			at(0, told("1", 4, 5, "3"), told("2", 4, 4, "1"), silent),
			at(time.Second, told("1", 4, 6, "1"), told("2", 4, 6, "1"), silent), at(2*time.Second, told("1", 4, 6, "1"), told("2", 4, 6, "1"), silent),
		}, true},
		// 2 s to be elected and 1 s ahead, twice 2 s to promote, and 1 s.
		"the leader has had little time": {[]heardRound{
			at(0, told("1", 4, 5, "3"), told("2", 4, 5, "3"), silent), at(7900*time.Millisecond, told("1", 4, 5, "3"), told("2", 4, 5, "3"), silent),
		}, true},
		"the leader has had all the time": {[]heardRound{
			at(0, told("1", 4, 5, "3"), told("2", 4, 5, "3"), silent), at(8100*time.Millisecond, told("1", 4, 5, "3"), told("2", 4, 5, "3"), silent),
		}, false},
		"nobody was heard for a while": {[]heardRound{
			at(0, told("1", 4, 5, "3"), told("2", 4, 5, "3"), silent), at(3*time.Second, silent, silent, silent),
			at(3100*time.Millisecond, told("1", 4, 5, "3"), told("2", 4, 5, "3"), silent),
		}, true},
		"the leader is one that nobody here knows": {[]heardRound{
			at(0, told("1", 4, 5, "4"), told("2", 4, 5, "4"), told("3", 4, 4, "1")), at(time.Second, told("1", 4, 5, "4"), told("2", 4, 5, "4"), told("3", 4, 4, "1")),
		}, true},
		"the others voted again": {[]heardRound{
			at(0, told("1", 4, 5, "3"), told("2", 4, 5, "3"), silent), at(9*time.Second, told("1", 4, 6, "3"), told("2", 4, 5, "3"), silent),
		}, true},
		"no Sentinel tells its vote": {[]heardRound{at(0, SentinelReply{Answered: true, Calm: true, ConfigEpoch: 4}, SentinelReply{Answered: true, Calm: true, ConfigEpoch: 4}, silent)}, false},
	} {
		var e Elections
		for i, r := range c.rounds {
			e.Take(r.words, uint64(i+1), r.at)
		}
		if open := e.Open(c.rounds[len(c.rounds)-1].words); (len(open) > 0) != c.open {
			t.Errorf("%s: open are %+v", name, open)
		}
	}
}

// heardRound is what the Sentinels said in a round.
type heardRound struct {
	at    time.Time
	words []SentinelReply
}

func TestAnElectionThreatensAMasterThatIsNotItsOutcome(t *testing.T) {
	master := func(since uint64) Node { return Node{Address: "a", Answered: true, Master: true, Since: since} }
	promotes := func(id, addr string) []SentinelReply { return []SentinelReply{{ID: "x"}, {ID: id, Promotes: addr}} }
	in := func(epoch int64, round uint64) election {
		return election{Vote: Vote{epoch, fmt.Sprint(epoch)}, round: round}
	}
	for name, c := range map[string]struct {
		open       Elections
		master     Node
		named      string
		namedSince uint64
		words      []SentinelReply
		want       bool
	}{
		"there is none":                               {nil, master(0), "b", 0, nil, false},
		"there is one":                                {Elections{in(5, 3)}, master(0), "b", 0, nil, true},
		"the master was promoted since":               {Elections{in(5, 3)}, master(4), "b", 0, nil, false},
		"both were seen at once":                      {Elections{in(5, 4)}, master(4), "b", 0, nil, false},
		"two voted for two in one epoch":              {Elections{in(5, 3), in(5, 3)}, master(4), "b", 0, nil, false},
		"it was heard of after the promotion":         {Elections{in(5, 5)}, master(4), "b", 0, nil, true},
		"there is another one":                        {Elections{in(5, 3), in(6, 3)}, master(4), "b", 0, nil, true},
		"the promotion was announced":                 {Elections{in(5, 3)}, master(4), "b", 4, nil, true},
		"the Sentinels name the master already":       {Elections{in(5, 3)}, master(4), "a", 0, nil, true},
		"there is no master":                          {Elections{in(5, 3)}, Node{}, "b", 0, nil, true},
		"the leader of the last one promotes it":      {Elections{in(5, 3), in(6, 3)}, master(4), "b", 0, promotes("6", "a"), false},
		"the leader of an earlier one promotes it":    {Elections{in(5, 3), in(6, 3)}, master(4), "b", 0, promotes("5", "a"), true},
		"the leader of the last one promotes another": {Elections{in(6, 3), in(5, 3)}, master(4), "b", 0, promotes("6", "b"), true},
		"they voted again since":                      {Elections{in(5, 3), in(6, 5)}, master(4), "b", 0, promotes("6", "a"), true},
	} {
		if got := c.open.Threaten(c.master, c.named, c.namedSince, c.words); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestElectionsAreForgottenOneDay(t *testing.T) {
	var e Elections
	for i := range int64(1000) {
		e.Take([]SentinelReply{told("1", i, i+1, "3")}, uint64(i+1), time.Now())
	}
	if len(e) != rememberedElections || e[len(e)-1].Epoch != 1000 {
		t.Errorf("%d, the last of them %+v", len(e), e[len(e)-1])
	}
}

// One that was restarted has forgotten for whom it voted.
func TestAVoteThatWasForgottenIsTheOneThatWasTold(t *testing.T) {
	for name, c := range map[string]struct {
		before, now SentinelReply
		want        string
	}{
		"it tells the same":          {told("1", 4, 5, "3"), told("1", 4, 5, "3"), "3"},
		"it was restarted":           {told("1", 4, 5, "3"), told("1", 4, 5, noLeader), "3"},
		"it voted again, and then":   {told("1", 4, 5, "3"), told("1", 4, 6, noLeader), noLeader},
		"it is another one":          {told("1", 4, 5, "3"), told("2", 4, 5, noLeader), noLeader},
		"it never told for whom":     {told("1", 4, 5, noLeader), told("1", 4, 5, noLeader), noLeader},
		"it was silent and restarts": {told("1", 4, 5, "3"), SentinelReply{}, ""},
	} {
		var v Voter
		v.Remember(&c.before)
		v.Remember(&c.now)
		if c.now.Vote.Leader != c.want {
			t.Errorf("%s: %q", name, c.now.Vote.Leader)
		}
		if v.vote == (Vote{}) {
			t.Errorf("%s: it is forgotten", name)
		}
	}
}

func TestTheNewestConfigurationNamesTheMaster(t *testing.T) {
	names := func(master string, config int64) SentinelReply {
		return SentinelReply{Master: master, ConfigEpoch: config}
	}
	for name, c := range map[string]struct {
		words []SentinelReply
		want  string
	}{
		"all agree":                          {[]SentinelReply{names("a", 5), names("a", 5), {}}, "a"},
		"one has not heard of it":            {[]SentinelReply{names("b", 4), names("a", 5), names("a", 5)}, "a"},
		"the others have not heard of it":    {[]SentinelReply{names("a", 4), names("a", 4), names("b", 5)}, "b"},
		"their majority has a newer one":     {[]SentinelReply{names("a", 4), names("b", 5), names("a", 6)}, "a"},
		"nobody tells":                       {[]SentinelReply{names("b", 0), names("a", 0), names("a", 0)}, "a"},
		"there are none":                     {nil, ""},
		"one with a configuration is silent": {[]SentinelReply{names("", 7), names("a", 4), names("a", 4)}, "a"},
	} {
		if got := Newest(c.words, "a"); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
