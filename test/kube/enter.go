//go:build linux

package kube

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"

	"holdfast/internal/process"
)

// Kubectl returns a kubectl command for the cluster, not started yet. It sees this machine's files.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (*exec.Cmd, error) {
	pid, err := c.controlPlane()
	if err != nil {
		return nil, err
	}
	programs, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net", "--target", strconv.Itoa(pid),
		filepath.Join(programs, "kubectl"), "--kubeconfig", filepath.Join(c.dir(), "pki", "kubeconfig")}, args...)...)
	return cmd, nil
}

// quietly runs kubectl. It returns the output only as part of an error.
func (c *Cluster) quietly(ctx context.Context, input io.Reader, args ...string) error {
	cmd, err := c.Kubectl(ctx, args...)
	if err != nil {
		return err
	}
	cmd.Stdin = input
	return run(cmd)
}

// On returns a command inside a node, with the node's network, mounts and processes.
func (c *Cluster) On(ctx context.Context, node int, command ...string) (*exec.Cmd, error) {
	pid, err := findProcess(nodeGroup(c.group(), node), "node", c.dir(), strconv.Itoa(node))
	if err != nil {
		return nil, err
	}
	args := []string{"--mount", "--net", "--uts", "--ipc", "--pid", "--cgroup", "--target", strconv.Itoa(pid)}
	return exec.CommandContext(ctx, "nsenter", append(args, command...)...), nil
}

// Load loads images (archives of 'docker save' or in OCI's layout) on all nodes.
func (c *Cluster) Load(ctx context.Context, archives ...string) error {
	nodes, err := c.nodes()
	if err != nil {
		return err
	}
	for node := 1; node <= nodes; node++ {
		for _, archive := range archives {
			if err := c.loadAt(ctx, node, archive); err != nil {
				return fmt.Errorf("load %s at node %d: %w", archive, node, err)
			}
		}
	}
	return nil
}

func (c *Cluster) loadAt(ctx context.Context, node int, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd, err := c.On(ctx, node, "ctr", "--namespace", "k8s.io", "images", "import", "-")
	if err != nil {
		return err
	}
	cmd.Stdin = f
	return run(cmd)
}

// Dial connects to an address of the cluster's network, such as a NodePort.
func (c *Cluster) Dial(ctx context.Context, address string) (net.Conn, error) {
	pid, err := c.controlPlane()
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = process.Within(fmt.Sprintf("/proc/%d/ns/net", pid), func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}

// Forward makes an address of the cluster's network reachable at a loopback address of this
// machine, which it returns, until the context ends.
func (c *Cluster) Forward(ctx context.Context, address string) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // the context has ended
			}
			go c.carry(ctx, client, address)
		}
	}()
	return listener.Addr().String(), nil
}

// carry connects a client's connection with a new one to the address. If one direction ends, it
// ends at the other side as well, and the other direction goes on.
func (c *Cluster) carry(ctx context.Context, client net.Conn, address string) {
	defer client.Close()
	server, err := c.Dial(ctx, address)
	if err != nil {
		return // the client sees its connection end
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	defer stop()

	var halves sync.WaitGroup
	for _, half := range []struct{ to, from net.Conn }{{client, server}, {server, client}} {
		halves.Go(func() {
			_, _ = io.Copy(half.to, half.from) // it does not matter which side ended
			_ = half.to.(*net.TCPConn).CloseWrite()
		})
	}
	halves.Wait()
}

// controlPlane returns the pid of the cluster's first process.
func (c *Cluster) controlPlane() (int, error) {
	return findProcess(c.group(), "control-plane", c.dir())
}

func (c *Cluster) nodes() (int, error) {
	dirs, err := filepath.Glob(filepath.Join(c.dir(), "node*"))
	return len(dirs), err
}

// run runs a command. If it fails, its output is in the error.
func run(cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, out.Bytes())
	}
	return nil
}
