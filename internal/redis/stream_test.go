package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/redis/resp"
)

// ear remembers what a listener heard.
type ear[T comparable] struct {
	mu    sync.Mutex
	heard []T
	ended chan error
	stop  context.CancelFunc
}

// listenTo runs a listener until the test ends or stop is called.
func listenTo[T comparable](t *testing.T, listen func(context.Context, func(T)) error) *ear[T] {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	e := &ear[T]{ended: make(chan error, 1), stop: stop}
	go func() {
		e.ended <- listen(ctx, func(heard T) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.heard = append(e.heard, heard)
		})
	}()
	t.Cleanup(stop)
	return e
}

func (e *ear[T]) all() []T {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard)
}

// hears waits until it has heard something.
func (e *ear[T]) hears(t *testing.T, what T) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, fmt.Sprintf("%+v is heard", what), func() bool { return slices.Contains(e.all(), what) })
}

func (e *ear[T]) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-e.ended:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the listener did not end within 10 s")
		return nil
	}
}

func subscribeTo(t *testing.T, client *Client, patterns bool, names ...string) *ear[Message] {
	t.Helper()
	return listenTo(t, func(ctx context.Context, hear func(Message)) error {
		return client.Subscribe(ctx, patterns, names, hear)
	})
}

func single(t *testing.T) (*Client, *redistest.Server) {
	cluster := redistest.Start(t, 0, 0)
	return open(t, cluster, func(c *Config) { c.MinAcks = 0 }), cluster.Nodes[0]
}

// subscribers are those that Redis counts for a channel.
func subscribers(node *redistest.Server, name string) string {
	return strings.TrimPrefix(node.Do("PUBSUB", "NUMSUB", name), name+" ")
}

func TestASubscriberHearsItsConfirmationsAndThenTheMessages(t *testing.T) {
	client, node := single(t)
	two := subscribeTo(t, client, false, "a", "b", "a")
	two.hears(t, Message{Kind: "subscribe", Channel: "b", Count: 2})
	matching := subscribeTo(t, client, true, "n*")
	matching.hears(t, Message{Kind: "psubscribe", Pattern: "n*", Count: 1})
	node.Do("PUBLISH", "a", "to a\x00\r\n\xff")
	node.Do("PUBLISH", "news", "to news")
	two.hears(t, Message{Kind: "message", Channel: "a", Payload: "to a\x00\r\n\xff"})
	matching.hears(t, Message{Kind: "pmessage", Pattern: "n*", Channel: "news", Payload: "to news"})
	if got := two.all(); len(got) != 3 || got[0] != (Message{Kind: "subscribe", Channel: "a", Count: 1}) {
		t.Errorf("two confirmations and a message should be heard, not %+v", got)
	}
	two.stop()
	if err := two.end(t); !errors.Is(err, context.Canceled) {
		t.Errorf("the end: %v", err)
	}
}

func TestManySubscribersShareOneConnection(t *testing.T) {
	t.Parallel()
	client, node := single(t)
	var all []*ear[Message]
	for range 300 {
		all = append(all, subscribeTo(t, client, false, "shared"))
	}
	for _, e := range all {
		e.hears(t, Message{Kind: "subscribe", Channel: "shared", Count: 1})
	}
	if got := subscribers(node, "shared"); got != "1" {
		t.Errorf("Redis has %s subscribers, want 1", got)
	}
	node.Do("PUBLISH", "shared", "hello")
	for i, e := range all {
		e.hears(t, Message{Kind: "message", Channel: "shared", Payload: "hello"})
		if i > 0 {
			e.stop()
			_ = e.end(t)
		}
	}
	node.Do("PUBLISH", "shared", "again")
	all[0].hears(t, Message{Kind: "message", Channel: "shared", Payload: "again"})
	all[0].stop()
	redistest.Eventually(t, 5*time.Second, "the last to leave unsubscribes", func() bool { return subscribers(node, "shared") == "0" })
	redistest.Eventually(t, 5*time.Second, "the connection is given up", func() bool {
		return !strings.Contains(node.Do("CLIENT", "LIST"), "resp=3")
	})
	again := subscribeTo(t, client, false, "shared")
	again.hears(t, Message{Kind: "subscribe", Channel: "shared", Count: 1})
}

func TestTheSentinelsChannelIsInNoList(t *testing.T) {
	client, node := single(t)
	node.Do("ACL", "SETUSER", redistest.Username, "allchannels")
	for _, channel := range []string{"news", "__sentinel__:hello"} { // as a Sentinel does
		subscribeTo(t, client, false, channel).hears(t, Message{Kind: "subscribe", Channel: channel, Count: 1})
	}
	for words, want := range map[string]string{"PUBSUB CHANNELS": "[news]", "pubsub Channels *[ws]": "[news]", "PUBSUB CHANNELS _*": "[]"} {
		for way, r := range ways(commands(words)[0]) {
			if got := do(t, client, r); got[len(got)/2] != want {
				t.Errorf("%s, %s: %q", words, way, got)
			}
		}
	}
}

func TestARefusedSubscriptionEndsInRedisWordsAndNoOtherWithIt(t *testing.T) {
	client, node := single(t)
	node.Do("ACL", "SETUSER", redistest.Username, "clearselectors")
	fine := subscribeTo(t, client, false, "news")
	fine.hears(t, Message{Kind: "subscribe", Channel: "news", Count: 1})
	for _, patterns := range []bool{false, true} {
		if err := subscribeTo(t, client, patterns, "__sentinel__:hello").end(t); KindOf(err) != Refused || !strings.HasPrefix(Words(err), "NOPERM") {
			t.Errorf("patterns %v: %v", patterns, err)
		}
	}
	node.Do("PUBLISH", "news", "x")
	fine.hears(t, Message{Kind: "message", Channel: "news", Payload: "x"})
	// Redis ends the connection of a user who loses a right.
	node.Do("ACL", "SETUSER", redistest.Username, "resetchannels", "&other")
	if err := fine.end(t); KindOf(err) != Refused {
		t.Errorf("after the right was lost: %v", err)
	}
	if err := subscribeTo(t, client, false).end(t); KindOf(err) != Invalid {
		t.Errorf("no names: %v", err)
	}
}

func TestASlowSubscriberIsDroppedAndNoOtherWaits(t *testing.T) {
	client, node := single(t)
	block := make(chan struct{})
	slow := listenTo(t, func(ctx context.Context, hear func(Message)) error {
		return client.Subscribe(ctx, false, []string{"c"}, func(m Message) {
			hear(m)
			if m.Kind == "message" {
				<-block
			}
		})
	})
	fast := subscribeTo(t, client, false, "c")
	fast.hears(t, Message{Kind: "subscribe", Channel: "c", Count: 1})
	slow.hears(t, Message{Kind: "subscribe", Channel: "c", Count: 1})
	node.Do("PUBLISH", "c", "first")
	slow.hears(t, Message{Kind: "message", Channel: "c", Payload: "first"})
	big := strings.Repeat("x", 1<<20)
	for range 6 {
		node.Do("PUBLISH", "c", big)
	}
	node.Do("PUBLISH", "c", "last")
	fast.hears(t, Message{Kind: "message", Channel: "c", Payload: "last"})
	close(block)
	if err := slow.end(t); KindOf(err) != Overloaded {
		t.Errorf("the slow one: %v", err)
	}
}

func TestListenersFollowTheMaster(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 3, 3)
	for _, n := range cluster.Nodes { // as an operator would have it
		n.Do("ACL", "SETUSER", redistest.Username, "+monitor")
	}
	client := open(t, cluster, nil)
	published := subscribeTo(t, client, false, "news")
	changed := listenTo(t, client.Changes)
	monitored := listenTo(t, client.Monitor)
	published.hears(t, Message{Kind: "subscribe", Channel: "news", Count: 1})
	changed.hears(t, Change{Missed: true})
	monitored.hears(t, "OK")

	speak := func(word string) {
		t.Helper()
		// On a starved machine the Sentinels replace one that is well, too.
		var master *redistest.Server
		redistest.Eventually(t, 10*time.Second, "the master writes", func() bool {
			master = cluster.Node(client.Master())
			return master != nil && master.Do("SET", "key-"+word, "v") == "OK"
		})
		master.Do("PUBLISH", "news", word)
		published.hears(t, Message{Kind: "message", Channel: "news", Payload: word})
		changed.hears(t, Change{Key: "key-" + word})
		redistest.Eventually(t, 5*time.Second, "MONITOR tells of "+word, func() bool {
			return slices.ContainsFunc(monitored.all(), func(line string) bool { return strings.Contains(line, `"SET" "key-`+word+`"`) })
		})
	}
	speak("before")
	lost := func() int {
		n := 0
		for _, c := range changed.all() {
			if c.Missed {
				n++
			}
		}
		return n
	}
	for round, fault := range []func(*redistest.Server){
		(*redistest.Server).Kill,
		func(s *redistest.Server) { s.Signal(syscall.SIGSTOP) },
	} {
		old := client.Master()
		before := lost()
		fault(cluster.Node(old))
		redistest.Eventually(t, 20*time.Second, "there is another master", func() bool { m := client.Master(); return m != "" && m != old })
		redistest.Eventually(t, 10*time.Second, "all listen to it", func() bool {
			master := cluster.Node(client.Master())
			return master != nil && lost() > before && subscribers(master, "news") == "1" && strings.Contains(master.Do("CLIENT", "LIST"), "cmd=monitor")
		})
		speak(fmt.Sprintf("after-%d", round))
	}
	if slices.Contains(monitored.all()[1:], "OK") {
		t.Error("MONITOR told twice that it listens")
	}
	if got := published.all(); got[0].Kind != "subscribe" || slices.ContainsFunc(got[1:], func(m Message) bool { return m.Kind == "subscribe" }) {
		t.Errorf("one confirmation was to be heard: %+v", got)
	}
}

func TestMonitorTellsNothingOfItself(t *testing.T) {
	t.Parallel()
	client, node := single(t)
	if err := listenTo(t, client.Monitor).end(t); KindOf(err) != Refused || !strings.HasPrefix(Words(err), "NOPERM") {
		t.Errorf("without the right: %v", err)
	}
	node.Do("ACL", "SETUSER", redistest.Username, "+monitor")
	monitored := listenTo(t, client.Monitor)
	monitored.hears(t, "OK")
	pings := func() int64 {
		info := node.Do("INFO", "commandstats")
		_, after, _ := strings.Cut(info, "cmdstat_ping:calls=")
		count, _, _ := strings.Cut(after, ",")
		return resp.Int(count)
	}
	before := pings()
	redistest.Eventually(t, 10*time.Second, "signs of life were asked for", func() bool { return pings() >= before+2 })
	node.Do("SET", "k", strings.Repeat("v", 100_000))
	redistest.Eventually(t, 5*time.Second, "a long command is heard", func() bool {
		return slices.ContainsFunc(monitored.all(), func(line string) bool { return strings.Contains(line, "vvvv") && len(line) > 100_000 })
	})
	var ours string // our address, as Redis has it
	for line := range strings.Lines(node.Do("CLIENT", "LIST")) {
		if _, after, ok := strings.Cut(line, " addr="); ok && strings.Contains(line, "flags=O") {
			ours, _, _ = strings.Cut(after, " ")
		}
	}
	if ours == "" {
		t.Fatal("CLIENT LIST has no one who monitors")
	}
	for _, line := range monitored.all() {
		if strings.Contains(line, ours) || line == "PONG" {
			t.Errorf("heard %q", line)
		}
	}
}

func TestWithoutAMasterNobodyListensForLong(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 0, 0)
	cluster.Nodes[0].Kill()
	client := open(t, cluster, func(c *Config) { c.Hold = 300 * time.Millisecond })
	for what, err := range map[string]error{
		"subscribe": subscribeTo(t, client, false, "x").end(t),
		"changes":   listenTo(t, client.Changes).end(t),
		"monitor":   listenTo(t, client.Monitor).end(t),
	} {
		if KindOf(err) != NotExecuted {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTheSentinelsMayKnowUsByAnotherNameOrNone(t *testing.T) {
	cluster := redistest.Start(t, 1, 1)
	sentinel := cluster.Sentinels[0]
	if got := sentinel.Do("ACL", "SETUSER", "watcher", "on", ">seen", "&*", "+@all"); got != "OK" {
		t.Fatal(got)
	}
	sentinel.Do("ACL", "DELUSER", redistest.Username)
	for _, login := range []*Login{{}, {Username: "watcher", Password: "seen"}} {
		client := open(t, cluster, func(c *Config) { c.Sentinel = login })
		redistest.Eventually(t, 10*time.Second, "the master is found", func() bool { return client.Master() == cluster.Nodes[0].Addr })
		redistest.Eventually(t, 10*time.Second, "the Sentinel's announcements are heard", func() bool {
			for line := range strings.Lines(sentinel.Do("CLIENT", "LIST")) {
				if strings.Contains(line, " sub=1 ") && strings.Contains(line, " user="+Config{Username: login.Username}.User()+" ") {
					return true
				}
			}
			return false
		})
	}
	same := open(t, cluster, nil)
	redistest.Eventually(t, 10*time.Second, "it is not found as the nodes' user", func() bool { return same.Status().Why != "nobody was asked yet" })
	if same.Master() != "" {
		t.Error("the Sentinels let in whom they do not know")
	}
}

func TestWhoFindsRedisFullWaitsForRoom(t *testing.T) {
	client, node := single(t)
	redistest.Eventually(t, 5*time.Second, "there is a master", func() bool { return client.Master() != "" })
	var crowd []*conn.Raw
	for range 30 {
		conn, err := conn.DialRaw(t.Context(), conn.Options{}, node.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		crowd = append(crowd, conn)
	}
	ask := func(words ...string) string {
		t.Helper()
		if err := crowd[0].Send(words); err != nil {
			t.Fatal(err)
		}
		f, err := crowd[0].Read()
		if err != nil {
			t.Fatal(err)
		}
		return f.Text
	}
	if got := ask("CONFIG", "SET", "maxclients", "20"); got != "OK" {
		t.Fatal(got)
	}
	waiting := subscribeTo(t, client, false, "c")
	redistest.Eventually(t, 10*time.Second, "it was turned away twice", func() bool {
		_, after, _ := strings.Cut(ask("INFO", "stats"), "rejected_connections:")
		count, _, _ := strings.Cut(after, "\r")
		return resp.Int(count) >= 2
	})
	for _, conn := range crowd[1:] {
		conn.Close()
	}
	waiting.hears(t, Message{Kind: "subscribe", Channel: "c", Count: 1})
}

func TestNobodyHearsTheSentinelsOrOfOurKeys(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	node := cluster.Nodes[0]
	client := open(t, cluster, asScripts)
	node.Do("CONFIG", "SET", "notify-keyspace-events", "KEA")
	node.Do("ACL", "SETUSER", redistest.Username, "+monitor")

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	heard := make(chan string, 100)
	var both sync.WaitGroup
	defer both.Wait()
	defer stop()
	both.Go(func() {
		_ = client.Subscribe(ctx, true, []string{"*"}, func(m Message) { heard <- m.Kind + " " + m.Channel + " " + m.Payload })
	})
	both.Go(func() { _ = client.Monitor(ctx, func(line string) { heard <- "monitor " + line }) })
	listening := map[string]bool{}
	for len(listening) < 2 {
		switch line := <-heard; {
		case strings.HasPrefix(line, "psubscribe"):
			listening["psubscribe"] = true
		case line == "monitor OK":
			listening["monitor"] = true
		}
	}

	node.Do("PUBLISH", "__sentinel__:hello", "secret")
	do(t, client, &Request{Commands: commands("SET secret 1"), IdempotencyKey: "once"})
	for way, r := range ways(Command{"EVAL", "return 1", "0"}) {
		if got := do(t, client, r); got[len(got)/2] != "1" {
			t.Errorf("%s: %q", way, got)
		}
	}
	node.Do("SET", command.ReservedPrefix+"secret", "x")
	node.Do("PUBLISH", "news", "the end")
	var lines []string
	for ended := 0; ended < 2; {
		line := <-heard
		lines = append(lines, line)
		if strings.Contains(line, "the end") {
			ended++
		}
	}
	text := strings.Join(lines, "\n")
	if strings.Contains(text, "holdfast") || strings.Contains(text, "message __sentinel__") || strings.Contains(text, redistest.Password) {
		t.Errorf("heard:\n%s", text)
	}
	for _, want := range []string{"pmessage __keyspace@0__:secret set", "pmessage __keyevent@0__:set secret", `lua] "SET" "secret" "1"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q was not heard:\n%s", want, text)
		}
	}
}
