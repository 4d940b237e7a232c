package plan

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/commands"
	"holdfast/internal/stack"
)

// startRedis starts the Sentinels and the redis nodes, with redis-1 as the master.
func (c *cluster) startRedis() {
	c.t.Helper()
	_, port, _ := net.SplitHostPort(c.process("redis-1").Address)
	for _, p := range c.plan.Hosts[0].Processes {
		switch {
		case p.Kind == Sentinel:
			c.start(p.Node)
		case p.Node == "redis-1":
			c.start(p.Node, "--replicaof", "no", "one")
		case p.Kind == Redis:
			c.start(p.Node, "--replicaof", "127.0.0.1", port)
		}
	}
}

// do sends one command as a user over a connection of its own.
func do(address, user, password string, command ...string) (string, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{address}, Username: user, Password: password,
		ForceSingleClient: true, DisableCache: true, DisableRetry: true,
		ConnWriteTimeout: 2 * time.Second,
	})
	if err != nil {
		return "", err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r := client.Do(ctx, client.B().Arbitrary(command...).Build())
	if err := r.Error(); err != nil {
		return "", err
	}
	m, _ := r.ToMessage()
	return message(m), nil
}

// message returns an answer on one line.
func message(m rueidis.RedisMessage) string {
	if list, err := m.ToArray(); err == nil {
		var all []string
		for _, e := range list {
			all = append(all, message(e))
		}
		return strings.Join(all, " ")
	}
	if pairs, err := m.AsStrMap(); err == nil {
		var all []string
		for k, v := range pairs {
			all = append(all, k+"="+v)
		}
		return strings.Join(all, " ")
	}
	if n, err := m.ToInt64(); err == nil {
		return strconv.FormatInt(n, 10)
	}
	s, _ := m.ToString()
	return s
}

// web sends a command as the user of the web nodes.
func (c *cluster) web(node string, command ...string) (string, error) {
	return do(c.process(node).Address, "web", c.secrets.Web, command...)
}

// answers returns a check that fails unless the answer of a command contains a text.
func answers(want string) func(string, error) error {
	return func(got string, err error) error {
		if err != nil {
			return err
		}
		if !strings.Contains(got, want) {
			return fmt.Errorf("%q has no %q", got, want)
		}
		return nil
	}
}

func TestTheMastersDeathIsSurvived(t *testing.T) {
	c := newCluster(t, base(), nil)
	c.startRedis()
	c.start("balancer-1")

	// This holds at once, not only after the 10 s of the first INFO or the 2 s of a hello.
	for _, s := range []string{"sentinel-1", "sentinel-2", "sentinel-3"} {
		eventually(t, time.Second, func() error { _, err := c.web(s, "PING"); return err })
		eventually(t, 0, func() error {
			return answers("num-slaves=2")(c.sentinelMaster(s))
		})
		eventually(t, 0, func() error { return answers("num-other-sentinels=2")(c.sentinelMaster(s)) })
		eventually(t, 5*time.Second, func() error {
			return answers("OK 3 usable Sentinels")(c.web(s, "SENTINEL", "CKQUORUM", c.plan.Name))
		})
	}
	// Both replicas have this write.
	eventually(t, 10*time.Second, func() error {
		_, err := c.web("redis-1", "SET", "before", "1")
		return err
	})
	eventually(t, 10*time.Second, func() error {
		return answers("connected_slaves:2")(c.web("redis-1", "INFO", "replication"))
	})
	for _, r := range []string{"redis-2", "redis-3"} {
		eventually(t, 5*time.Second, func() error { return answers("1")(c.web(r, "GET", "before")) })
	}
	master := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.ports()[PortRedisMaster]))
	throughBalancer := func(command ...string) (string, error) {
		return do(master, "web", c.secrets.Web, command...)
	}
	eventually(t, 5*time.Second, func() error { return answers("OK")(throughBalancer("SET", "through", "1")) })

	// The Sentinels started first, and consider a node down that was not up yet when they began.
	// That lasts a second, in which they may even replace it.
	var old string
	eventually(t, 20*time.Second, func() (err error) {
		old, err = c.agreed()
		return err
	})
	c.kill(old)
	var promoted string
	eventually(t, 10*time.Second, func() error {
		for _, r := range []string{"redis-1", "redis-2", "redis-3"} {
			if answers("master")(c.web(r, "ROLE")) == nil {
				promoted = r
				return nil
			}
		}
		return errors.New("no replica became master")
	})
	eventually(t, 10*time.Second, func() error { _, err := c.web(promoted, "SET", "after", "2"); return err })
	if err := answers("1")(c.web(promoted, "GET", "before")); err != nil {
		t.Error(err)
	}
	// The balancers' port follows the master and refuses no writer.
	eventually(t, 5*time.Second, func() error { return answers("OK")(throughBalancer("SET", "through", "2")) })

	// The old master comes back as a replica, as Sentinel tells it to.
	_, new, _ := net.SplitHostPort(c.process(promoted).Address)
	c.start(old, "--replicaof", "127.0.0.1", new)
	eventually(t, 10*time.Second, func() error { return answers("slave 127.0.0.1 " + new)(c.web(old, "ROLE")) })
	eventually(t, 10*time.Second, func() error { return answers("2")(c.web(old, "GET", "after")) })

	// A Sentinel that restarts follows its own state, except for what base.conf has.
	base := filepath.Join(c.dir, "nodes", "sentinel-1", "base.conf")
	text, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "down-after-milliseconds holdfast 500", "down-after-milliseconds holdfast 750", 1)
	if err := os.WriteFile(base, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	knows := answers("port=" + new)
	eventually(t, 10*time.Second, func() error { return knows(c.sentinelMaster("sentinel-1")) })
	c.kill("sentinel-1")
	c.start("sentinel-1")
	eventually(t, 2*time.Second, func() error { return answers("down-after-milliseconds=750")(c.sentinelMaster("sentinel-1")) })
	if err := knows(c.sentinelMaster("sentinel-1")); err != nil {
		t.Errorf("restarted, it thinks of another master: %v", err)
	}
}

// agreed returns the node that every Sentinel considers a healthy master, and that itself reports
// to be the master with two replicas.
func (c *cluster) agreed() (string, error) {
	for _, r := range []string{"redis-1", "redis-2", "redis-3"} {
		info, err := c.web(r, "INFO", "replication")
		if answers("role:master")(info, err) != nil {
			continue
		}
		if err := answers("connected_slaves:2")(info, nil); err != nil {
			return "", fmt.Errorf("%s: %w", r, err)
		}
		_, port, _ := net.SplitHostPort(c.process(r).Address)
		for _, s := range []string{"sentinel-1", "sentinel-2", "sentinel-3"} {
			got, err := c.sentinelMaster(s)
			if fields := strings.Fields(got); err != nil || !slices.Contains(fields, "flags=master") || !slices.Contains(fields, "port="+port) {
				return "", fmt.Errorf("%s: %q, %v", s, got, err)
			}
		}
		return r, nil
	}
	return "", errors.New("no node is the master")
}

func TestOneThatWakesUpAsMasterGetsNoClients(t *testing.T) {
	c := newCluster(t, base(), nil)
	c.startRedis()
	c.start("balancer-1")
	eventually(t, 10*time.Second, func() error {
		return answers("connected_slaves:2")(c.web("redis-1", "INFO", "replication"))
	})
	for _, s := range []string{"sentinel-1", "sentinel-2", "sentinel-3"} {
		c.kill(s) // so that nothing puts the old master right
	}
	// These commands are what a failover does while redis-1 hangs; then redis-1 wakes up.
	operator := func(node string, command ...string) {
		t.Helper()
		if _, err := do(c.process(node).Address, "operator", c.secrets.Operator, command...); err != nil {
			t.Fatal(err)
		}
	}
	operator("redis-2", "REPLICAOF", "NO", "ONE")
	_, new, _ := net.SplitHostPort(c.process("redis-2").Address)
	operator("redis-3", "REPLICAOF", "127.0.0.1", new)
	eventually(t, 10*time.Second, func() error {
		return answers("connected_slaves:1")(c.web("redis-2", "INFO", "replication"))
	})

	master := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.ports()[PortRedisMaster]))
	through := func(command ...string) (string, error) {
		return do(master, "web", c.secrets.Web, command...)
	}
	eventually(t, 5*time.Second, func() error {
		for range 10 {
			if err := answers("connected_slaves:1")(through("INFO", "replication")); err != nil {
				return err
			}
		}
		return nil
	})
	// A replica only counts for min-replicas-to-write after it has acknowledged.
	eventually(t, 5*time.Second, func() error { return answers("OK")(through("SET", "a", "b")) })
	if err := answers("master")(c.web("redis-1", "ROLE")); err != nil {
		t.Errorf("redis-1: %v", err)
	}
	if _, err := c.web("redis-1", "SET", "a", "lost"); err == nil || !strings.Contains(err.Error(), "NOREPLICAS") {
		t.Errorf("a master without replicas: %v, want NOREPLICAS", err)
	}
	// Without any replica the master can still be read.
	c.kill("redis-3")
	c.kill("redis-1")
	eventually(t, 5*time.Second, func() error { return answers("b")(through("GET", "a")) })
}

func (c *cluster) sentinelMaster(node string) (string, error) {
	return c.web(node, "SENTINEL", "MASTER", c.plan.Name)
}

func TestUsersMayDoWhatTheyNeedAndNoMore(t *testing.T) {
	s := base()
	s.Redis.Replicas, s.Redis.Sentinels = 0, 1
	s.Apps["web"].KV.Allow = []string{"keys", "config|get", "monitor", "blpop"}
	s.Apps["own"] = stack.App{Command: []string{"x"}, Nodes: 1}
	s.Apps["more"] = stack.App{Command: []string{"x"}, Nodes: 1, Redis: stack.RedisAccess{
		Allow: []string{"keys", "flushdb", "function|load"}, Patterns: []string{"news.*", `__keyspace@0__:\[a(b)?`}, Databases: []int{1, 14},
	}}
	c := newCluster(t, s, nil)
	c.startRedis()
	redis, sentinel := c.process("redis-1").Address, c.process("sentinel-1").Address
	operator := func(address string, command ...string) (string, error) {
		return do(address, "operator", c.secrets.Operator, command...)
	}
	for _, address := range []string{redis, sentinel} {
		eventually(t, 5*time.Second, func() error { return answers("PONG")(operator(address, "PING")) })
		if _, err := do(address, "", "", "PING"); err == nil || !strings.Contains(err.Error(), "NOAUTH") && !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("%s: without a password: %v", address, err)
		}
	}
	type try struct {
		address, user string
		commands      string
		allowed       bool
	}
	for _, c := range []try{
		{redis, "web", "SET a b|GET a|DEL a|MULTI|EXEC|WATCH a|WAIT 1 1|INFO replication|ROLE|EVAL x 0|EVALSHA x 0|SCAN 0|SORT a|XADD s * f v|TIME|" +
			"PUBLISH news x|PUBLISH _x x|PUBLISH __ x|PUBLISH __sentinel__:hell x|PUBLISH __sentinel__:hello2 x|PUBLISH __keyspace@0__:k x|SUBSCRIBE news|SUBSCRIBE __sentinel__:|SUBSCRIBE __sentinel__:hullo|PSUBSCRIBE *|PSUBSCRIBE news.*|CLIENT SETNAME x|CLIENT TRACKING on|HELLO 3|DBSIZE|EXPIRE a 1|SELECT 1|" +
			// The web node itself needs these: the command table, client-side caching.
			"COMMAND|COMMAND INFO get|COMMAND DOCS get|COMMAND COUNT|COMMAND GETKEYS get a|CLIENT ID|CLIENT CACHING yes|CLIENT TRACKING on BCAST|CLIENT TRACKING on OPTIN|CLIENT TRACKINGINFO|" +
			"CLIENT GETREDIR|CLIENT INFO|PING|ECHO x|SCRIPT LOAD x|SCRIPT EXISTS x|FUNCTION LIST|OBJECT ENCODING a|BLPOP a 1|XREAD STREAMS s 0|" +
			"KEYS *|CONFIG GET save|MONITOR", true},
		{redis, "web", "PUBLISH __sentinel__:hello x|SPUBLISH __sentinel__:hello x|SUBSCRIBE __sentinel__:hello|SSUBSCRIBE __sentinel__:hello|MOVE a 15|CONFIG SET save x|CONFIG REWRITE|REPLICAOF no one|SLAVEOF no one|FLUSHALL|FLUSHDB|SHUTDOWN|DEBUG SLEEP 1|" +
			"CLIENT PAUSE 1|CLIENT LIST|ACL LIST|ACL SETUSER x|SAVE|BGREWRITEAOF|FAILOVER|PSYNC x 1|REPLCONF x 1|MIGRATE h 1 a 0 1|MODULE LIST|SWAPDB 0 1", false},
		{redis, "scripts-web", "EVAL x 0|EVALSHA x 0|FCALL f 0|GET a|SET a b|SELECT 0|SCAN 0|PUBLISH news x|SORT a|INFO|FUNCTION LIST|SCRIPT LOAD x|KEYS *|CONFIG GET save", true},
		{redis, "scripts-web", "SELECT 15|SELECT 1|COPY a b|MOVE a 15|SWAPDB 0 1|FLUSHDB|PUBLISH __sentinel__:hello x|FUNCTION FLUSH|FUNCTION LOAD x|SCRIPT FLUSH|MULTI|CLIENT ID|ACL WHOAMI|CONFIG SET save x", false},
		{redis, "read-scripts-web", "EVAL_RO x 0|EVALSHA_RO x 0|FCALL_RO f 0|GET a|SELECT 0|DBSIZE|SORT_RO a", true},
		{redis, "read-scripts-web", "SET a b|SELECT 15|SCAN 0|KEYS *|CONFIG GET save|PUBLISH news x|SPUBLISH news x|SUBSCRIBE news|INFO|DEL a|SCRIPT LOAD x", false},
		// Client libraries send these when they connect; then come the data commands.
		{redis, "app-own", "HELLO 3|AUTH app-own x|SELECT 0|CLIENT SETNAME x|CLIENT ID|CLIENT INFO|CLIENT TRACKING on|CLIENT REPLY ON|COMMAND|COMMAND DOCS get|INFO|ROLE|PING|RESET|TIME|" +
			"SET a b|GET a|DEL a|SCAN 0|SORT a|DBSIZE|MULTI|EXEC|DISCARD|WATCH a|WAIT 1 1|BLPOP a 1|XADD s * f v|XREAD BLOCK 1 STREAMS s 0|DUMP a|OBJECT ENCODING a|" +
			"EVAL x 0|EVALSHA x 0|EVAL_RO x 0|FCALL f 0|SCRIPT LOAD x|SCRIPT EXISTS x|FUNCTION LIST|FUNCTION DUMP|" +
			"PUBLISH news x|SPUBLISH news x|SUBSCRIBE news|SSUBSCRIBE news|SUBSCRIBE __keyspace@0__:a|PUNSUBSCRIBE *|PUBSUB CHANNELS", true},
		{redis, "app-own", "SELECT 15|SELECT 1|SELECT 00|SELECT x|MOVE a 15|COPY a b|COPY a b DB 15|SWAPDB 0 1|MIGRATE h 1 a 15 1|RESTORE a 0 x|KEYS *|FLUSHDB|FLUSHALL|" +
			"FUNCTION LOAD x|FUNCTION DELETE x|FUNCTION FLUSH|FUNCTION KILL|FUNCTION RESTORE x|SCRIPT FLUSH|SCRIPT KILL|SCRIPT DEBUG YES|" +
			"PUBLISH __sentinel__:hello x|SPUBLISH __sentinel__:hello x|SUBSCRIBE __sentinel__:hello|SSUBSCRIBE __sentinel__:hello|SUBSCRIBE news __sentinel__:hello|" +
			"PSUBSCRIBE *|PSUBSCRIBE __sentinel__:hello|PSUBSCRIBE __sentinel__*|PSUBSCRIBE ?_sentinel__:hello|PSUBSCRIBE news.*|" +
			"CONFIG GET *|CONFIG SET save x|MONITOR|SLOWLOG GET|ACL LIST|ACL WHOAMI|CLIENT LIST|CLIENT KILL TYPE normal|CLIENT PAUSE 1|CLIENT NO-EVICT on|DEBUG SLEEP 1|SHUTDOWN|REPLICAOF no one|FAILOVER|PSYNC ? -1|REPLCONF ack 1|CLUSTER INFO|MODULE LIST|LATENCY RESET|SAVE|BGSAVE", false},
		{redis, "app-more", "SELECT 0|SELECT 1|SELECT 14|KEYS *|FLUSHDB|FUNCTION LOAD x|PSUBSCRIBE news.*|PSUBSCRIBE __keyspace@0__:\\[a(b)?|SUBSCRIBE news.x", true},
		{redis, "app-more", "SELECT 15|SELECT 2|COPY a b|MOVE a 1|SWAPDB 0 1|FLUSHALL|FUNCTION FLUSH|PSUBSCRIBE *|PSUBSCRIBE news*|PSUBSCRIBE other.*|PUBLISH __sentinel__:hello x|SUBSCRIBE __sentinel__:hello", false},
		{redis, "replication", "PSYNC ? -1|REPLCONF ack 1|PING", true},
		{redis, "replication", "GET a|SET a b|INFO|REPLICAOF no one|PUBLISH __sentinel__:hello x", false},
		{redis, "sentinel", "REPLICAOF no one|SLAVEOF no one|CONFIG REWRITE|ROLE|INFO|PUBLISH __sentinel__:hello x|SUBSCRIBE __sentinel__:hello|CLIENT KILL TYPE normal|CLIENT SETNAME x|MULTI|EXEC|PING", true},
		{redis, "sentinel", "GET a|SET a b|CONFIG GET *|CONFIG SET save x|PUBLISH news x|FLUSHALL|SHUTDOWN", false},
		{redis, "balancer", "PING|ROLE|INFO replication|DEL holdfast-balancer-check", true},
		{redis, "balancer", "GET a|DEL a|GET holdfast-balancer-check|CONFIG GET *|PUBLISH news x|REPLICAOF no one", false},
		{sentinel, "web", "PING|ROLE|INFO|HELLO 3|CLIENT SETNAME x|SENTINEL GET-MASTER-ADDR-BY-NAME x|SENTINEL MASTER x|SENTINEL MASTERS|SENTINEL REPLICAS x|SENTINEL SENTINELS x|SENTINEL CKQUORUM x|SUBSCRIBE +switch-master|PSUBSCRIBE *", true},
		{sentinel, "web", "SENTINEL FAILOVER x|SENTINEL REMOVE x|SENTINEL SET x quorum 1|SENTINEL MONITOR x 127.0.0.1 1 1|SENTINEL RESET *|SENTINEL CONFIG GET *|PUBLISH __sentinel__:hello x|SHUTDOWN|ACL LIST|CLIENT KILL TYPE normal", false},
		{sentinel, "app-own", "PING|ROLE|INFO|HELLO 3|AUTH app-own x|CLIENT SETNAME x|SENTINEL GET-MASTER-ADDR-BY-NAME x|SENTINEL MASTER x|SENTINEL MASTERS|SENTINEL REPLICAS x|SENTINEL SLAVES x|SENTINEL SENTINELS x|SUBSCRIBE +switch-master|PSUBSCRIBE *", true},
		{sentinel, "app-own", "SENTINEL CKQUORUM x|SENTINEL FAILOVER x|SENTINEL REMOVE x|SENTINEL SET x quorum 1|SENTINEL MONITOR x 127.0.0.1 1 1|SENTINEL RESET *|SENTINEL CONFIG GET *|SENTINEL FLUSHCONFIG|SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 *|SENTINEL DEBUG|PUBLISH __sentinel__:hello x|PUBLISH +switch-master x|SHUTDOWN|ACL LIST|CLIENT KILL TYPE normal|CLIENT LIST", false},
		{sentinel, "sentinel", "PING|SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 *|PUBLISH __sentinel__:hello x|CLIENT SETNAME x", true},
		{sentinel, "sentinel", "SENTINEL FAILOVER x|SENTINEL MASTERS|SHUTDOWN|ACL LIST", false},
	} {
		for command := range strings.SplitSeq(c.commands, "|") {
			out, err := operator(c.address, append([]string{"ACL", "DRYRUN", c.user}, strings.Fields(command)...)...)
			if err != nil {
				t.Errorf("%s: %s: %v", c.user, command, err)
			} else if (out == "OK") != c.allowed {
				t.Errorf("%s at %s: %s: %s", c.user, c.address, command, out)
			}
		}
	}
	// These are really sent, one of them from a script.
	for _, command := range [][]string{
		{"PUBLISH", "__sentinel__:hello", "x"},
		{"EVAL", "return redis.call('publish', '__sentinel__:hello', 'x')", "0"},
		{"EVAL", "return redis.call('flushall')", "0"},
	} {
		if out, err := c.web("redis-1", command...); err == nil {
			t.Errorf("web may %v: %s", command, out)
		}
	}
	programIsHeldToItsDatabase(t, redis, c.secrets.Programs["own"], operator)

	// The next start adds nothing to what Redis has written into its own file.
	if err := answers("OK")(operator(redis, "CONFIG", "REWRITE")); err != nil {
		t.Fatal(err)
	}
	c.kill("redis-1")
	c.start("redis-1", "--replicaof", "no", "one")
	eventually(t, 5*time.Second, func() error {
		out, err := operator(redis, "CONFIG", "GET", "save")
		if want := "save=" + strings.Join(s.Redis.Save, " "); err == nil && out != want {
			err = fmt.Errorf("%q, want %q", out, want)
		}
		return err
	})
}

// programIsHeldToItsDatabase really tries each way in which a program could leave its database: on
// a connection, in a transaction, in a script, by a subscription, as another user.
func programIsHeldToItsDatabase(t *testing.T, redis, password string, operator func(address string, command ...string) (string, error)) {
	t.Helper()
	conn, err := net.Dial("tcp", redis)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	answers := bufio.NewReader(conn)
	ask := func(line string) string {
		t.Helper()
		fmt.Fprintf(conn, "%s\r\n", line)
		answer, err := answers.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return strings.TrimSpace(answer)
	}
	operator(redis, "EVAL", "redis.call('select', 15) redis.call('set', 'record', 'kept')", "0")

	for _, step := range []struct{ line, want string }{
		{"AUTH app-own wrong", "-WRONGPASS"},
		{"AUTH app-own " + password, "+OK"},
		{"SELECT 0", "+OK"},
		{"SET mine x", "+OK"},
		{"SELECT 15", "-NOPERM"},
		{"GET record", "$-1"},
		{"MULTI", "+OK"},
		{"SELECT 15", "-NOPERM"},
		{"EXEC", "-EXECABORT"},
		{"MULTI", "+OK"},
		{"EVAL \"return redis.call('select', 15)\" 0", "+QUEUED"},
		{"GET record", "+QUEUED"},
		{"EXEC", "*2"},
	} {
		if got := ask(step.line); !strings.HasPrefix(got, step.want) {
			t.Errorf("%s: %s, want %s", step.line, got, step.want)
		}
	}
	for _, want := range []string{"-", "$-1"} { // answers of the transaction: of the script, and of the key
		if got, err := answers.ReadString('\n'); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("in a transaction with a script: %q, %v, want %s", got, err, want)
		}
	}
	for _, step := range []struct{ line, want string }{
		{"EVAL \"return redis.pcall('select', '15')\" 0", "-"},
		{"EVAL \"redis.call('select', 15) return redis.call('get', 'record')\" 0", "-"},
		{"EVAL \"redis.call('select', '0') return redis.call('exists', 'record')\" 0", ":0"},
		{"EVAL \"return redis.call('copy', 'mine', 'record', 'db', 15, 'replace')\" 0", "-"},
		{"EVAL \"return redis.call('move', 'mine', 15)\" 0", "-"},
		{"EVAL \"return redis.call('function', 'flush')\" 0", "-"},
		{"EVAL \"return redis.call('publish', '__sentinel__:hello', 'x')\" 0", "-"},
		{"COPY mine record DB 15 REPLACE", "-NOPERM"},
		{"PSUBSCRIBE *", "-NOPERM"},
		{"SUBSCRIBE __sentinel__:hello", "-NOPERM"},
		{"AUTH app-more " + password, "-WRONGPASS"},
		{"AUTH web " + password, "-WRONGPASS"},
		{"GET record", "$-1"},
	} {
		if got := ask(step.line); !strings.HasPrefix(got, step.want) {
			t.Errorf("%s: %s, want %s", step.line, got, step.want)
		}
	}
	if got, err := operator(redis, "EVAL", "redis.call('select', 15) return redis.call('get', 'record')", "0"); err != nil || got != "kept" {
		t.Errorf("the record is %q, %v", got, err)
	}
}

func TestRedisKnowsEveryCommandThatMayBeAllowed(t *testing.T) {
	s := base()
	s.Redis.Replicas, s.Redis.Sentinels = 0, 1
	s.Apps["web"].KV.Allow = append([]string{"@dangerous", "@blocking"}, commands.Shared...)
	s.Apps["own"] = stack.App{Command: []string{"x"}, Nodes: 1, Redis: stack.RedisAccess{Allow: append([]string{"@dangerous"}, commands.Shared...)}}
	c := newCluster(t, s, nil)
	c.startRedis() // Redis refuses a users' file with an unknown command
	eventually(t, 5*time.Second, func() error { _, err := c.web("redis-1", "FLUSHDB"); return err })
	for _, command := range s.Apps["web"].KV.AllowedCommands() {
		name := strings.Split(command, "|")
		out, err := do(c.process("redis-1").Address, "operator", c.secrets.Operator,
			append([]string{"ACL", "DRYRUN", "web"}, append(name, "a", "b", "c", "d")...)...)
		if err == nil && strings.Contains(out, "permission") {
			t.Errorf("%s is not allowed: %s", command, out)
		}
		if slices.Contains(commands.Shared, command) {
			if out, err := do(c.process("redis-1").Address, "operator", c.secrets.Operator, append([]string{"ACL", "DRYRUN", "scripts-web"}, append(name, "a", "b", "c", "d")...)...); err == nil && strings.Contains(out, "permission") {
				t.Errorf("%s is not allowed beside a script: %s", command, out)
			}
		}
		// A program may use blocking commands without further rights.
		if out, err := do(c.process("redis-1").Address, "operator", c.secrets.Operator, append([]string{"ACL", "DRYRUN", "app-own"}, append(name, "a", "b", "c", "d")...)...); err == nil && strings.Contains(out, "permission") {
			t.Errorf("%s is not allowed to a program: %s", command, out)
		}
	}
}

// Redis kept the unix socket of former versions in its own file. A node whose directory has moved
// since could not make it there, and would not start.
func TestAFormerUnixSocketOfRedisIsNotMade(t *testing.T) {
	s := base()
	s.Redis.Replicas, s.Redis.Sentinels = 0, 1
	c := newCluster(t, s, nil)
	own := filepath.Join(c.dir, "nodes", "redis-1", "redis.conf")
	if err := os.WriteFile(own, []byte("unixsocket \"/nowhere/redis.sock\"\nunixsocketperm 600\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.startRedis()
	eventually(t, 5*time.Second, func() error {
		got, err := do(c.process("redis-1").Address, "operator", c.secrets.Operator, "CONFIG", "GET", "unixsocket")
		if err == nil && got != "unixsocket=" {
			err = fmt.Errorf("%q", got)
		}
		return err
	})
}
