//go:build linux

package kube

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Cut disconnects a node's network cable. Its pods keep running.
func (c *Cluster) Cut(ctx context.Context, node int) error { return c.link(ctx, node, "down") }

// Heal connects the cable again.
func (c *Cluster) Heal(ctx context.Context, node int) error { return c.link(ctx, node, "up") }

func (c *Cluster) link(ctx context.Context, node int, state string) error {
	pid, err := c.controlPlane()
	if err != nil {
		return err
	}
	return run(exec.CommandContext(ctx, "nsenter", "--net", "--target", strconv.Itoa(pid),
		"ip", "link", "set", Cable(node), state))
}

// Cable returns the name of a node's cable at its end in the control plane's network.
func Cable(node int) string { return fmt.Sprintf("node%d", node) }

// Kill switches a node off: all its processes end at once. Start switches it on again.
func (c *Cluster) Kill(node int) error {
	if err := os.WriteFile(PowerSwitch(c.dir(), node), nil, 0o644); err != nil {
		return err
	}
	group := nodeGroup(c.group(), node)
	killGroup(group)
	if left := groupPIDs(group); len(left) > 0 {
		return fmt.Errorf("processes of node %d do not end: %v", node, left)
	}
	return nil
}

// Start switches on a node that Kill has switched off.
func (c *Cluster) Start(node int) error { return os.Remove(PowerSwitch(c.dir(), node)) }

// PowerSwitch returns the path of a file that keeps a node switched off while it exists.
func PowerSwitch(dir string, node int) string {
	return filepath.Join(dir, fmt.Sprintf("node%d", node), "off")
}
