// Command run runs the cluster of package kube by hand:
//
//	go run ./test/kube/run up [NODES]         start it (3 nodes), and compile its programs if need be
//	go run ./test/kube/run kubectl ARG...     run kubectl for it
//	go run ./test/kube/run helm ARG...        run Helm for it
//	go run ./test/kube/run load ARCHIVE...    load images on all nodes
//	go run ./test/kube/run on NODE CMD...     run a command inside a node
//	go run ./test/kube/run forward ADDRESS    make an address (198.19.99.1:30080) reachable on loopback
//	go run ./test/kube/run cut NODE TIME      disconnect a node's cable for a time, such as 10s
//	go run ./test/kube/run kill NODE TIME     switch a node off for a time
//	go run ./test/kube/run down               end it, and remove what it has left
//	go run ./test/kube/run build              only compile the programs
//
// HOLDFAST_KUBE names another cluster than "hand".
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"holdfast/internal/clock"
	"holdfast/test/kube"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()

	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		os.Exit(ended.ExitCode()) // the command has printed why
	case err != nil:
		fmt.Fprintln(os.Stderr, "kube:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	cluster := kube.Open(cmp.Or(os.Getenv("HOLDFAST_KUBE"), "hand"))
	cluster.Progress = os.Stderr
	if len(args) == 0 {
		return errors.New("what shall it do: up, kubectl, helm, load, on, forward, down or build?")
	}

	switch name, rest := args[0], args[1:]; {
	case name == "build":
		if _, err := cluster.Build(ctx); err != nil {
			return err
		}
		_, err := cluster.BuildHelm(ctx)
		return err
	case name == "up" && len(rest) <= 1:
		return up(ctx, cluster, rest)
	case name == "down" && len(rest) == 0:
		return cluster.Down()
	case name == "load" && len(rest) > 0:
		return cluster.Load(ctx, rest...)
	case name == "kubectl":
		return here(cluster.Kubectl(ctx, rest...))
	case name == "helm":
		return here(cluster.Helm(ctx, rest...))
	case name == "on" && len(rest) > 1:
		node, err := strconv.Atoi(rest[0])
		if err != nil {
			return fmt.Errorf("%q is no number of a node", rest[0])
		}
		return here(cluster.On(ctx, node, rest[1:]...))
	case (name == "cut" || name == "kill") && len(rest) == 2:
		return lose(ctx, cluster, name, rest[0], rest[1])
	case name == "forward" && len(rest) == 1:
		address, err := cluster.Forward(ctx, rest[0])
		if err != nil {
			return err
		}
		fmt.Println(address)
		<-ctx.Done()
		return nil
	}
	return fmt.Errorf("no such command: %q; see go doc ./test/kube/run", args)
}

func up(ctx context.Context, cluster *kube.Cluster, args []string) error {
	if cluster.Runs() {
		return errors.New("it runs already; 'down' first")
	}
	nodes := 3
	if len(args) == 1 {
		var err error
		if nodes, err = strconv.Atoi(args[0]); err != nil {
			return fmt.Errorf("%q is no number of nodes", args[0])
		}
	}
	return cluster.Up(ctx, nodes)
}

// lose takes a node away for a time. The node is back when lose returns, even after an interrupt.
func lose(ctx context.Context, cluster *kube.Cluster, how, which, howLong string) error {
	node, err := strconv.Atoi(which)
	if err != nil {
		return fmt.Errorf("%q is no number of a node", which)
	}
	lasts, err := time.ParseDuration(howLong)
	if err != nil {
		return err
	}
	always := context.WithoutCancel(ctx)
	back := func() error { return cluster.Heal(always, node) }
	if how == "kill" {
		back = func() error { return cluster.Start(node) }
		err = cluster.Kill(node)
	} else {
		err = cluster.Cut(ctx, node)
	}
	clock.Sleep(ctx, lasts)
	return errors.Join(err, back())
}

// here runs a command with the input and output of this process.
func here(cmd *exec.Cmd, err error) error {
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
