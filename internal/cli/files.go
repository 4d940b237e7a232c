package cli

import (
	"fmt"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"holdfast/internal/static"
)

// filesCommand runs one node that serves a directory.
func filesCommand(getenv func(string) string) *cobra.Command {
	var dir, listen, further string
	c := &cobra.Command{
		Use:   "files",
		Short: "Run one node that serves a directory as static files",
		Long: `Run one node that serves a directory as static files, until SIGTERM or SIGINT.
It serves nothing outside the directory and no name that starts with a dot, and
lists no directory; ` + static.HealthPath + ` answers as long as the directory is there.`,
		Example: `  holdfast files --dir ./public --listen 127.0.0.1:4331`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if listen == "" {
				listen = listenAddress(getenv)
			}
			if err := checkListen(listen); err != nil {
				return err
			}
			if dir == "" {
				return usagef("no directory to serve: give --dir")
			}
			if further == "" {
				further = getenv("HOLDFAST_HOSTS")
			}
			own, err := ownHosts(items(further))
			if err != nil {
				return usagef("--hosts (or HOLDFAST_HOSTS): %w", err)
			}
			if !(address{network: "tcp", at: listen}).loopback() {
				own = nil // everybody who can connect may read, whatever the host name
			}
			node := getenv("HOLDFAST_NODE")
			server, err := static.Open(dir, node, own)
			if err != nil {
				return usagef("%w", err)
			}
			defer server.Close()
			ln, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("the files node cannot start: %w", err)
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			log.Info("files node started", "node", node, "listen", ln.Addr().String(), "dir", dir)
			err = server.Serve(cmd.Context(), ln)
			log.Info("files node ended", "node", node)
			return err
		},
	}

	flags := c.Flags()
	pathVar(flags, &dir, getenv, "dir", "", "`DIRECTORY` to serve")
	flags.StringVar(&listen, "listen", "", "`HOST:PORT` to listen on ($HOST:$PORT, else 127.0.0.1:5000)")
	flags.StringVar(&further, "hosts", "", "`NAME,...` that a node on loopback answers to, as of 'holdfast web' ($HOLDFAST_HOSTS)")
	return c
}
