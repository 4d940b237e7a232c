package cli

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/private"
	"holdfast/internal/redis"
	"holdfast/internal/web"
)

// webCommand runs a single web node.
func webCommand(getenv func(string) string) *cobra.Command {
	f := newWebFlags()
	c := &cobra.Command{
		Use:   "web",
		Short: "Run one web node: Redis over HTTP",
		Long: `Run one web node: Redis over HTTP, until SIGTERM or SIGINT. Then it tells that it
is not ready any more, answers the requests that it has, and ends.

The Redis URL leads to a single Redis (redis://), to the master that Sentinels
name (redis+sentinel://) or to a Redis Cluster (redis+cluster://). The Sentinels
can also be given by --redis-sentinels and --redis-master-name; of the Redis URL
only user and password count then, for the nodes and the Sentinels alike.

Each flag can be an environment variable instead, the one in brackets; the flag
wins. Give a password in REDIS_URL, not on the command line, where others on
the machine can see it.

Whoever can reach the node can read and write. So it asks for tokens (--tokens,
see 'holdfast token'), or it listens on loopback and unix sockets alone, or it
is told that others see to it (--auth none).`,
		Example: `  REDIS_URL=redis://127.0.0.1:6379 holdfast web --listen 127.0.0.1:5000
  holdfast web --redis-sentinels 10.0.0.1:26379,10.0.0.2:26379,10.0.0.3:26379 --redis-master-name shop
  holdfast web --listen 0.0.0.0:5000 --tokens tokens.yaml --admin 127.0.0.1:5001`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.fill(getenv)
			n, err := f.node()
			if err != nil {
				return err
			}
			return n.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}

	f.register(c.Flags())
	return c
}

// webNode is a web node as its flags describe it.
type webNode struct {
	listen []address
	admin  string // host:port; empty: there is none
	hosts  []string
	files  []string // files that decide who may do what
	redis  redis.Config
	web    web.Config
	// authorities, certificate and key are for TLS to Redis, in PEM; nil: not given (see
	// loadRedisTLS). The certificate and the key are reread when their files change.
	authorities, certificate, key []byte
	certificateFile, keyFile      string
	// tlsCert, tlsKey and tlsClients are the files for TLS with clients. server is the resulting
	// settings; nil: no client speaks TLS.
	tlsCert, tlsKey, tlsClients string
	server                      *tls.Config
	// threads is how many cores the node uses; 0: tune decides.
	threads int
}

// run serves until the context ends. The server stops before the connections to Redis, which its
// last requests still need, and before the admin listener, which shows the progress.
func (n *webNode) run(ctx context.Context, stdout, stderr io.Writer) error {
	n.tune()
	log := slog.New(slog.NewTextHandler(stderr, nil))
	n.redis.Logger, n.web.Logger = log, log
	n.web.Access = slog.New(slog.NewJSONHandler(stdout, nil)).With("node", n.web.Node)
	for _, file := range n.files {
		if who := private.Warning(file); who != "" {
			log.Warn(who+", and so choose who may do what", "file", file)
		}
	}

	n.web.Drain = n.redis.Hold + 2*time.Second // time for requests that are held
	client, err := redis.New(n.redis)
	if err != nil {
		return err
	}

	server := web.New(n.web, client)

	var listeners []net.Listener
	closeAll := func() {
		for _, ln := range listeners {
			ln.Close()
		}
	}

	var names []string
	for _, a := range n.listen {
		ln, err := a.open()
		if err != nil {
			closeAll()
			return err
		}
		if a.secure {
			ln = tls.NewListener(ln, n.server)
		}
		listeners = append(listeners, ln)
		names = append(names, shownAddress(ln))
	}

	var admin net.Listener
	if n.admin != "" {
		if admin, err = (address{network: "tcp", at: n.admin}).open(); err != nil {
			closeAll()
			return err
		}
	}

	var beside sync.WaitGroup
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer beside.Wait()
	defer stop()
	beside.Go(func() { client.Run(serving) })
	if admin != nil {
		log.Info("metrics and profiles", "admin", shownAddress(admin))
		beside.Go(func() {
			if err := server.ServeAdmin(serving, admin); err != nil {
				log.Error("no metrics and profiles any more", "error", err)
			}
		})
	}

	for _, name := range names {
		log.Info("web node started", "node", n.web.Node, "listen", name, "sentinels", n.redis.Sentinels, "cluster", n.redis.Cluster, "min-acks", n.redis.MinAcks)
	}

	err = server.Serve(ctx, listeners...)
	log.Info("web node ended", "node", n.web.Node)
	return err
}

// gcPercent and memoryLimit (bytes) are settings of the garbage collector. A node has little data
// that lives long and much that does not, so a larger heap is cheaper than frequent collections.
// The limit applies to the heap without long answers, for which tune adds room.
const (
	gcPercent   = 400
	memoryLimit = 256 << 20
)

// tune fits the Go runtime to a web node, unless GOMAXPROCS or GOGC are set. A node that may use
// every core spends more time on waking threads than on requests when a balancer and Redis compete
// with it. On two cores behind HAProxy, one thread used 0.6 of the CPU time of two for each
// request.
func (n *webNode) tune() {
	if n.threads > 0 {
		runtime.GOMAXPROCS(n.threads)
	} else if cores := runtime.NumCPU(); runtime.GOMAXPROCS(0) == cores {
		runtime.GOMAXPROCS(max(1, cores/2))
	}
	if was := debug.SetGCPercent(gcPercent); was != 100 {
		debug.SetGCPercent(was)
		return
	}
	debug.SetMemoryLimit(memoryLimit + redis.AnswersHeld*int64(n.redis.MaxAnswer))
}
