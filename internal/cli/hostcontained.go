package cli

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/logs"
	"holdfast/internal/process"
	"holdfast/internal/supervise"
)

// A host that is a container ends as a whole: when its first process ends, the kernel kills its
// nodes. So at a signal the host first goes down for maintenance. The other hosts may not allow
// that, such as when all containers stop at once; then the nodes are stopped all the same.
const (
	// goDownTries is how long a host repeats the request when it may not go down. Another host may
	// just be going down, or beginning to lead.
	goDownTries = 5 * time.Second
	// goDownLimit is how long going down may take.
	goDownLimit = 30 * time.Second
	// endLimit is how long the nodes may then take to end.
	endLimit = 15 * time.Second
)

// goDown waits for a signal, and then has this host go down for maintenance. The process learns of
// that in the usual way. failed gets the signal if going down is not possible.
func (p *hostProcess) goDown(life context.Context, signals <-chan os.Signal, failed chan<- os.Signal) {
	var told os.Signal
	select {
	case told = <-signals:
	case <-life.Done():
		return
	}
	fmt.Fprintf(p.stderr, "Host %s goes down.\n", p.hostStart.self.Name)
	ctx, cancel := context.WithTimeout(life, goDownLimit)
	defer cancel()
	go func() {
		select {
		case <-signals: // a second signal means at once
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := p.rest(ctx); err != nil && life.Err() == nil {
		p.log.Warn("the host ends without the others taking over first", "why", err)
		failed <- told
		return
	}
	<-ctx.Done() // the process learns of it, and ends
	if life.Err() == nil {
		failed <- told
	}
}

// rest asks for permission to go down, and repeats that until it is given.
func (p *hostProcess) rest(ctx context.Context) error {
	client := control.NewClient(p.state)
	for began := time.Now(); ; {
		err := client.Rest(ctx, p.hostStart.self.Name, false)
		if err == nil || ctx.Err() != nil || time.Since(began) > goDownTries {
			return err
		}
		if !clock.Sleep(ctx, 300*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// endNodes stops what runs on this host. Its process no longer takes part in the stack.
func (p *hostProcess) endNodes() error {
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	if err := supervise.EndNodes(ctx, p.state); err != nil {
		return err
	}
	endLogWriter(p.state)
	fmt.Fprintf(p.stderr, "Host %s has ended, and its nodes. Data stays.\n", p.hostStart.self.Name)
	return nil
}

// forwardSignal passes a signal on.
func forwardSignal(life context.Context, signals <-chan os.Signal, to chan<- os.Signal) {
	select {
	case told := <-signals:
		to <- told
	case <-life.Done():
	}
}

// endLogWriter ends the log writer of a host whose nodes have all stopped, and waits until it has
// stored their last lines.
func endLogWriter(state string) {
	if id, known := logs.Running(state); known {
		_ = process.Signal(id, syscall.SIGTERM, false) // it may just have ended
	}
	awaitLogWriter(state)
}

// awaitLogWriter waits until the log writer has ended, after it was told to.
func awaitLogWriter(state string) {
	const patience = 5 * time.Second
	clock.Within(patience, 20*time.Millisecond, func() bool {
		id, known := logs.Running(state)
		return !known || !process.Alive(id)
	})
}
