package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/redis"
	"holdfast/internal/web"
)

// webFlags are what a web node is told. The environment has the same: there
// the supervisor puts it, and a password never stands on a command line.
type webFlags struct {
	listen     string
	url        string
	sentinels  string
	masterName string
	node       string
	minAcks    string
	hold       time.Duration
}

// webCommand runs one web node, by itself.
func webCommand(getenv func(string) string) *cobra.Command {
	var f webFlags
	c := &cobra.Command{
		Use:   "web",
		Short: "Run one web node: Redis over HTTP",
		Long: `Run one web node: Redis over HTTP, until SIGTERM or SIGINT.

With Sentinels it finds and follows the master by them and by the nodes' own
word; of the Redis URL only user and password count then, for the nodes and the
Sentinels alike. Without Sentinels the Redis URL is a single Redis.

Each flag but --hold can be an environment variable instead. Give a password
in REDIS_URL, not on the command line, where others on the machine can see it.`,
		Example: `  REDIS_URL=redis://127.0.0.1:6379 holdfast web --listen 127.0.0.1:5000
  holdfast web --redis-sentinels 10.0.0.1:26379,10.0.0.2:26379,10.0.0.3:26379 --redis-master-name shop`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.fill(getenv)
			cfg, err := f.redisConfig()
			if err != nil {
				return err
			}
			return runWeb(cmd.Context(), f, cfg, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
		},
	}
	// What a variable says is no flag's default: --help prints defaults, and
	// one of the variables has a password.
	flags := c.Flags()
	flags.StringVar(&f.listen, "listen", "", "`HOST:PORT` to listen on ($HOST:$PORT, else 127.0.0.1:5000)")
	flags.StringVar(&f.url, "redis-url", "", "`URL` of Redis, redis://USER:PASSWORD@HOST:PORT/DB ($REDIS_URL)")
	flags.StringVar(&f.sentinels, "redis-sentinels", "", "`HOST:PORT,...` of all Sentinels ($REDIS_SENTINELS)")
	flags.StringVar(&f.masterName, "redis-master-name", "", "the Sentinels' `NAME` for the master ($REDIS_MASTER_NAME)")
	flags.StringVar(&f.node, "node", "", "`NAME` of this node, told in answers ($HOLDFAST_NODE)")
	flags.StringVar(&f.minAcks, "min-acks", "", "how many `REPLICAS` must have a write before it is acknowledged ($HOLDFAST_MIN_ACKS, else 1 with Sentinels and 0 without)")
	flags.DurationVar(&f.hold, "hold", 5*time.Second, "how long a request waits for a Redis master")
	return c
}

// fill takes from the environment what the flags leave open.
func (f *webFlags) fill(getenv func(string) string) {
	for _, v := range []struct {
		flag *string
		name string
	}{
		{&f.url, "REDIS_URL"},
		{&f.sentinels, "REDIS_SENTINELS"},
		{&f.masterName, "REDIS_MASTER_NAME"},
		{&f.node, "HOLDFAST_NODE"},
		{&f.minAcks, "HOLDFAST_MIN_ACKS"},
	} {
		if *v.flag == "" {
			*v.flag = getenv(v.name)
		}
	}
	if f.listen == "" {
		f.listen = listenAddress(getenv)
	}
}

// listenAddress is $HOST:$PORT, each with a default.
func listenAddress(getenv func(string) string) string {
	host, port := getenv("HOST"), getenv("PORT")
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "5000"
	}
	return net.JoinHostPort(host, port)
}

// checkListen refuses an address that nobody can listen on.
func checkListen(address string) error {
	if err := checkAddress(address); err != nil {
		return usagef("listen on %q: %w; it is given by --listen or by HOST and PORT", address, err)
	}
	return nil
}

// checkAddress refuses what is not host:port.
func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("not an address of the form host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		return fmt.Errorf("%q is not a port", port)
	}
	return nil
}

// redisConfig is the way to Redis that the flags describe. Its errors never
// quote the URL, which has a password.
func (f *webFlags) redisConfig() (redis.Config, error) {
	cfg := redis.Config{MasterName: f.masterName, Hold: f.hold, Name: f.node}
	if err := checkListen(f.listen); err != nil {
		return cfg, err
	}
	if f.hold <= 0 {
		return cfg, usagef("--hold is %v; it has to be longer than 0", f.hold)
	}
	if strings.ContainsFunc(f.node, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return cfg, usagef("the node's name %q has characters other than printable ASCII", f.node)
	}
	if f.url == "" && f.sentinels == "" {
		return cfg, usagef("no Redis to serve from: give REDIS_URL or --redis-url (redis://127.0.0.1:6379 is a Redis on this machine), or the Sentinels")
	}
	for addr := range strings.SplitSeq(f.sentinels, ",") {
		if addr = strings.TrimSpace(addr); addr == "" {
			continue
		}
		if err := checkAddress(addr); err != nil {
			return cfg, usagef("Sentinel %q: %w", addr, err)
		}
		cfg.Sentinels = append(cfg.Sentinels, addr)
	}
	if len(cfg.Sentinels) > 0 && cfg.MasterName == "" {
		return cfg, usagef("Sentinels are given, but not the name of the master that they watch: give REDIS_MASTER_NAME or --redis-master-name")
	}
	if f.url != "" {
		if err := parseRedisURL(f.url, &cfg); err != nil {
			return cfg, err
		}
	}
	if len(cfg.Sentinels) > 0 {
		cfg.MinAcks = 1
	}
	if f.minAcks != "" {
		n, err := strconv.Atoi(f.minAcks)
		if err != nil || n < 0 {
			return cfg, usagef("%q is not a number of replicas (--min-acks or HOLDFAST_MIN_ACKS)", f.minAcks)
		}
		cfg.MinAcks = n
	}
	return cfg, nil
}

// parseRedisURL takes address, user, password and database from a URL of the
// form redis://USER:PASSWORD@HOST:PORT/DB.
func parseRedisURL(text string, cfg *redis.Config) error {
	const form = "the Redis URL has to be of the form redis://USER:PASSWORD@HOST:PORT/DB"
	u, err := url.Parse(text)
	if err != nil {
		return usagef("%s; what is given cannot be read", form)
	}
	if u.Scheme != "redis" || u.Hostname() == "" {
		return usagef("%s; the scheme is %q and the host is %q", form, u.Scheme, u.Hostname())
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	cfg.Address = net.JoinHostPort(u.Hostname(), port)
	if err := checkAddress(cfg.Address); err != nil {
		return usagef("%s; %w", form, err)
	}
	cfg.Username = u.User.Username()
	cfg.Password, _ = u.User.Password()
	if db := strings.Trim(u.Path, "/"); db != "" {
		if cfg.DB, err = strconv.Atoi(db); err != nil || cfg.DB < 0 {
			return usagef("%s; %q is not a database's number", form, db)
		}
	}
	return nil
}

// runWeb serves until the context ends. The server ends before the way to
// Redis does: its last requests still need it.
func runWeb(ctx context.Context, f webFlags, cfg redis.Config, log *slog.Logger) error {
	cfg.Logger = log
	client, err := redis.New(cfg)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fmt.Errorf("the web node cannot start: %w", err)
	}
	var store sync.WaitGroup
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	store.Go(func() { client.Run(serving) })
	defer store.Wait()
	defer stop()

	log.Info("web node started", "node", f.node, "listen", ln.Addr().String(), "sentinels", cfg.Sentinels, "min-acks", cfg.MinAcks)
	err = web.New(web.Config{Node: f.node, Drain: f.hold + 2*time.Second, Logger: log}, client).Serve(ctx, ln)
	log.Info("web node ended", "node", f.node)
	return err
}
