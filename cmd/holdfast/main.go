// Command holdfast starts, operates and tests a highly available web application: HAProxy, web
// nodes, replicated Redis. It only calls package cli.
package main

import (
	"os"

	"holdfast/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}
