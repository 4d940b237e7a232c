package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

var fullDisk = fault{
	name: "full-disk", about: "the disk below the master's append-only file is full for 6 s: Redis refuses writes, and the Sentinels' pings, so that another master is elected",
	disk: true, needs: needFailover, promise: held,
	inject: func(ctx context.Context, fc *faultContext) error {
		n, err := fc.randomBusyNode(ctx, plan.Redis, "master")
		if err != nil {
			return err
		}
		if err := fc.fillDisk(ctx, n); err != nil {
			return err
		}
		full := time.Now()
		if err := fc.awaitMaster(ctx, n.Name); err != nil {
			return err
		}
		return sleep(ctx, cutLasts-time.Since(full))
	},
}

// fillDisk fills the disk of a redis node, and waits until the node cannot write.
func (fc *faultContext) fillDisk(ctx context.Context, n supervise.NodeStatus) error {
	if !fc.stack.disks {
		return errNoDisks
	}
	ballast := filepath.Join(dataIn(fc.stack.stateOf(n.Host), n.Name), "ballast")
	if err := fc.undo(step{Why: "the full disk of " + n.Name, Remove: ballast}); err != nil {
		return err
	}
	fc.say("filling the disk of %s", n.Name)
	fc.recordInjection(n.Name)
	size, err := fill(ballast)
	if err != nil {
		return err
	}
	err = await(ctx, n.Name+" failing to write to its append-only file", 5*time.Second, func() bool {
		ok, err := fc.stack.admin(n.Name).Writes(ctx)
		return err == nil && !ok
	})
	if err != nil {
		return err
	}
	fc.evidence("%s cannot write to its append-only file, beside a ballast of %d MiB", n.Name, size>>20)
	return nil
}

// errNoDisks is the error if the disk to be filled is shared with others.
var errNoDisks = errors.New("the stack's redis nodes have no disks of their own")

// fill writes a file until the disk is full, and returns its size in bytes. It stops with an error
// at twice the size of a node's own disk: it may be filling the machine's.
func fill(path string) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for size <= 2*disk<<20 {
		n, err := f.Write(block)
		size += int64(n)
		switch {
		case errors.Is(err, syscall.ENOSPC) && len(block) > 1:
			block = block[:len(block)/2] // less than a block is left
		case errors.Is(err, syscall.ENOSPC):
			return size, nil
		case err != nil:
			return size, err
		}
	}
	return size, fmt.Errorf("the disk at %s is larger than it was made", path)
}
