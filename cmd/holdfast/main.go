// Command holdfast stands up, operates and watches a highly available web
// application: HAProxy, web nodes, replicated Redis. It only delegates; see
// package cli.
package main

import (
	"os"

	"holdfast/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}
