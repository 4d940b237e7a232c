//go:build linux

package kube

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/clock"
)

// Cluster is a cluster on this machine, running or not. Its methods are safe for concurrent use,
// except Up and Down.
type Cluster struct {
	name string
	// Progress gets a line for each step of Up and Build.
	Progress io.Writer

	lock *os.File // held from Up to Down, so that two tests do not share a cluster
}

// Open returns the cluster with that name. It starts nothing.
func Open(name string) *Cluster { return &Cluster{name: name, Progress: io.Discard} }

// cacheDir returns the directory of all files of this package.
func cacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "holdfast-kubernetes")
}

// dir returns the directory for what the cluster writes while it runs.
func (c *Cluster) dir() string { return filepath.Join(cacheDir(), "clusters", c.name) }

// LogDir returns the directory with a log file for each program of the cluster. Down removes it.
func (c *Cluster) LogDir() string { return filepath.Join(c.dir(), "log") }

// group returns the cluster's control group. The checksum distinguishes clusters of the same name
// whose files are in different places.
func (c *Cluster) group() string {
	return fmt.Sprintf("holdfast-%s-%08x", c.name, crc32.ChecksumIEEE([]byte(c.dir())))
}

func (c *Cluster) say(format string, args ...any) {
	fmt.Fprintf(c.Progress, "kube: "+format+"\n", args...)
}

// Up starts the cluster with 1 to 9 nodes and returns when all of them are ready. It builds what
// has to be built, waits until another process' test on this cluster ends, and removes what an
// earlier cluster of this name has left.
func (c *Cluster) Up(ctx context.Context, nodes int) (err error) {
	if nodes < 1 || nodes > 9 {
		return fmt.Errorf("a cluster has 1 to 9 nodes, not %d", nodes)
	}
	if err := Usable(); err != nil {
		return err
	}
	programs, err := c.Build(ctx)
	if err != nil {
		return err
	}
	if err := c.takeLock(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, c.lastWords())
			err = errors.Join(err, c.Down())
		}
	}()
	if err := c.end(); err != nil {
		return err
	}

	began := time.Now()
	if err := c.prepare(nodes); err != nil {
		return err
	}
	inside := filepath.Join(c.dir(), "inside")
	if err := compile(ctx, "./test/kube/inside", inside); err != nil {
		return err
	}
	if err := c.start(inside, programs, nodes); err != nil {
		return err
	}
	if err := c.ready(ctx, nodes); err != nil {
		return err
	}
	c.say("%d nodes ready after %.1f s", nodes, time.Since(began).Seconds())
	return nil
}

// prepare writes the files that the cluster needs at its start.
func (c *Cluster) prepare(nodes int) error {
	for _, sub := range []string{"log", "pki", "volumes"} {
		if err := os.MkdirAll(filepath.Join(c.dir(), sub), 0o755); err != nil {
			return err
		}
	}
	for n := 1; n <= volumes; n++ {
		path := c.volume(n)
		if err := os.Mkdir(path, 0o777); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o777); err != nil { // regardless of the umask
			return err
		}
	}
	if err := writeKeys(filepath.Join(c.dir(), "pki"), nodes); err != nil {
		return err
	}
	return makeGroups(c.group(), nodes)
}

// start starts the control plane, which starts the nodes. The control plane waits until it is in
// the control group, so that everything in the cluster belongs to the group from the beginning.
func (c *Cluster) start(inside, programs string, nodes int) error {
	log, err := os.OpenFile(filepath.Join(c.LogDir(), "control-plane"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(inside, "control-plane", c.dir(), programs, c.group(), fmt.Sprint(nodes))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	start, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	go cmd.Wait() // so that it does not stay a zombie when it ends before this process

	if err := joinGroup(c.group(), cmd.Process.Pid); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	_, err = io.WriteString(start, "go\n")
	return errors.Join(err, start.Close())
}

// ready waits for the API and the nodes, and creates the cluster's volumes and the API of metrics.
func (c *Cluster) ready(ctx context.Context, nodes int) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := c.await(ctx, "the API server", func() error {
		return c.quietly(ctx, nil, "get", "--raw=/readyz")
	}); err != nil {
		return err
	}
	if err := c.quietly(ctx, strings.NewReader(c.storage()+"---\n"+metrics()), "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}

	pause, err := c.podImage(ctx)
	if err != nil {
		return err
	}
	for node := 1; node <= nodes; node++ {
		if err := c.await(ctx, fmt.Sprintf("containerd of node %d", node), func() error {
			return c.loadAt(ctx, node, pause)
		}); err != nil {
			return err
		}
	}
	for node := 1; node <= nodes; node++ {
		if err := c.await(ctx, fmt.Sprintf("node %d", node), func() error {
			return c.quietly(ctx, nil, "wait", "--for=condition=Ready", fmt.Sprintf("node/node%d", node), "--timeout=5s")
		}); err != nil {
			return err
		}
	}
	return nil
}

// await repeats a step until it succeeds, or until the cluster or the context has ended.
func (c *Cluster) await(ctx context.Context, what string, step func() error) error {
	for {
		err := step()
		if err == nil {
			return nil
		}
		if len(groupPIDs(c.group())) == 0 {
			return fmt.Errorf("the cluster has ended while it waited for %s", what)
		}
		if !clock.Sleep(ctx, 200*time.Millisecond) {
			return fmt.Errorf("%s is not ready: %w", what, err)
		}
	}
}

// Down ends the cluster and removes everything that it has left, including what an earlier, killed
// process started. It does nothing if nothing is left.
func (c *Cluster) Down() error {
	err := c.end()
	if c.lock != nil {
		err = errors.Join(err, c.lock.Close())
		c.lock = nil
	}
	return err
}

// end kills everything that runs, and removes control groups and files. All mounts and network
// devices are in the cluster's own namespaces, and go with the last process there.
func (c *Cluster) end() error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		killGroup(c.group())
		err := removeGroups(c.group())
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("end the cluster %s: %w", c.name, err)
		}
	}
	return os.RemoveAll(c.dir())
}

// Runs reports whether any process of the cluster runs.
func (c *Cluster) Runs() bool { return len(groupPIDs(c.group())) > 0 }

// takeLock waits until no other process uses the cluster.
func (c *Cluster) takeLock(ctx context.Context) error {
	if c.lock != nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(c.dir()), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(c.dir()+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	for said := false; ; said = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			c.lock = f
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if !said {
			c.say("waiting for another process that uses the cluster %s", c.name)
		}
		if !clock.Sleep(ctx, time.Second) {
			f.Close()
			return ctx.Err()
		}
	}
}

// lastWords returns the ends of the logs, to show why a start failed.
func (c *Cluster) lastWords() string {
	var all strings.Builder
	files, _ := filepath.Glob(filepath.Join(c.LogDir(), "*"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Fprintf(&all, "--- %s\n%s\n", filepath.Base(file), strings.Join(lines[max(0, len(lines)-8):], "\n"))
	}
	return all.String()
}

// Usable returns an error that names what this machine lacks for a cluster.
func Usable() error {
	if os.Geteuid() != 0 {
		return errors.New("a Kubernetes cluster for tests needs root")
	}
	for _, program := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc", "iptables", "ipset", "ip", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is missing; scripts/setup --kubernetes installs it", program)
		}
	}
	if _, err := os.Stat(filepath.Join(PluginDir, "bridge")); err != nil {
		return fmt.Errorf("the CNI plugins are missing in %s; scripts/setup --kubernetes installs them", PluginDir)
	}
	for _, kind := range []string{"cpu", "memory", "pids"} {
		if _, err := os.Stat(filepath.Join(groupsDir, kind, "tasks")); err != nil {
			return fmt.Errorf("no control groups of version 1 (%s): the cluster for tests knows no other", kind)
		}
	}
	return nil
}
