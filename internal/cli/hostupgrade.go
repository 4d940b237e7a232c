package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/supervise"
)

// takeOverHost has this program replace this host's process in a stack of several hosts. If this
// host leads, another one takes the lead meanwhile. The nodes go on.
func takeOverHost(ctx context.Context, state, self, digest string, stdout io.Writer) error {
	client := control.NewClient(state)
	v, err := client.Hosts(ctx)
	switch {
	case errors.Is(err, control.ErrNoSupervisor):
		return errors.New("this host is not up: 'holdfast up -d' has it take part again, with this version")
	case err != nil:
		return err
	case v.Program == digest:
		_, err = fmt.Fprintf(stdout, "host %s runs this version already\n", v.Here)
		return err
	}
	err = client.Upgrade(ctx, self)
	switch {
	case errors.Is(err, control.ErrNoHandOver):
		return fmt.Errorf("host %s runs a version that cannot hand over: end its process, whose nodes run on, and call 'holdfast up -d'", v.Here)
	case errors.Is(err, control.ErrNoSupervisor): // it may have left before its answer was sent
	case err != nil:
		return err
	}
	if err := awaitHostProgram(ctx, client, digest); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "host %s runs this version now\n", v.Here)
	return err
}

// awaitHostProgram waits until this host's process runs the program with that digest, has its vote,
// and learns from the leading host that it looks after the nodes. If this host led, that is another
// host now.
func awaitHostProgram(ctx context.Context, client *control.Client, digest string) error {
	const absent = 30 * time.Second // if nothing has run for so long, it has not started
	began, seen := time.Now(), time.Now()
	for {
		v, err := client.Hosts(ctx)
		switch {
		case ctx.Err() != nil:
			return errors.New("interrupted: the new version goes on taking over; see 'holdfast host list'")
		case err == nil && v.Program == digest && v.Leader != "" && hasVote(v):
			if st, err := client.Status(ctx); err == nil && st.Phase == supervise.PhaseRunning {
				return nil
			}
			seen = time.Now()
		case err == nil:
			seen = time.Now()
		case time.Since(seen) > absent:
			return errors.New("the new version has not come up on this host; its nodes run on. 'holdfast logs supervisor' may say why, and 'holdfast up -d' has the host take part again")
		}
		if time.Since(began) > takeOverLimit {
			return fmt.Errorf("the new version is up on this host, and no host leads the stack after %v: %s", takeOverLimit, waitsFor(v))
		}
		clock.Sleep(ctx, askHostEvery)
	}
}
