package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/logs"
	"holdfast/internal/plan"
	"holdfast/internal/private"
	"holdfast/internal/process"
)

// LogWriterCommand is the hidden subcommand of this program that runs the log writer.
const LogWriterCommand = "log-writer"

const (
	// A log writer that has not responded for writerHung is killed and started again. Meanwhile
	// nodes go on writing until their pipes are full. It is pinged every writerPing.
	writerPing = time.Second
	writerHung = 5 * time.Second
	// writerStart is how long the start of the stack waits for the log writer.
	writerStart = time.Second
	// A log writer that dies is started again at once. If it dies again within writerCalm, the
	// pause grows from writerPause to pauseMost.
	writerCalm  = 10 * time.Second
	writerPause = 100 * time.Millisecond
	pauseMost   = 5 * time.Second
	// writerGrace is how long the log writer may take to store the last output of all nodes.
	writerGrace = 5 * time.Second
)

// logKeeper keeps a log writer running, from keepLogs to letLogWriter. It starts one, or adopts
// that of an earlier supervisor. Like the nodes, the writer outlives its supervisor. logKeeper
// is safe for concurrent use.
type logKeeper struct {
	mu     sync.Mutex
	stop   context.CancelFunc // nil: not begun, or ended
	done   chan struct{}
	writer *process.Process // the last one; read it only after done
}

// keepLogs begins to keep a log writer running. Further calls do nothing.
func (s *Supervisor) keepLogs() {
	k := &s.logs
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stop != nil || s.cfg.Several { // each of several hosts keeps its own: see KeepLogs
		return
	}
	ctx, stop := context.WithCancel(s.ctx)
	k.stop, k.done = stop, make(chan struct{})
	s.tasks.Go(func() {
		defer close(k.done)
		s.keepLogWriter(ctx)
	})
}

// awaitLogWriter waits a moment for the log writer, so that the first output of the nodes gets
// its true time. Output that comes before waits in the pipes.
func (s *Supervisor) awaitLogWriter(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, writerStart)
	defer cancel()
	if err := logs.Await(ctx, s.dir.root); err != nil && ctx.Err() != context.Canceled {
		s.log.Warn("the log writer is not there yet", "error", err)
	}
}

func (s *Supervisor) keepLogWriter(ctx context.Context) {
	pauses := clock.Backoff{Min: writerPause, Max: pauseMost, AtOnce: true}
	for ctx.Err() == nil {
		began := time.Now()
		writer, err := s.logWriter()
		if err == nil {
			s.logs.writer = writer
			err = watchLogWriter(ctx, s.dir.root, writer)
		}
		if ctx.Err() != nil {
			return
		}
		s.log.Error("the log writer is started again", "why", err)
		if time.Since(began) > writerCalm {
			pauses.Reset()
		}
		clock.Sleep(ctx, pauses.Next())
	}
}

// logWriter adopts a running log writer, or starts one.
func (s *Supervisor) logWriter() (*process.Process, error) {
	if writer := s.runningLogWriter(); writer != nil {
		return writer, nil
	}
	output, err := s.openHelperLog(LogWriterCommand)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	writer, err := process.Start(process.Spec{
		Path: s.cfg.Self, Args: []string{LogWriterCommand, "--state", s.dir.root},
		Env: environFor(s.cfg.Environ, plan.Self), Dir: s.dir.root, Output: output,
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("log writer started", "pid", writer.ID().PID)
	return writer, nil
}

// helperLogSize is how large the own log of a helping process, such as the log writer, may be.
const helperLogSize = 1 << 20 // bytes

// openHelperLog opens the file for the output of a process that helps the supervisor, such as a
// crash: a few lines, which the log writer does not store.
func (s *Supervisor) openHelperLog(command string) (*os.File, error) {
	file, err := private.Open(s.dir.path("logs", command+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err == nil && info.Size() > helperLogSize {
		_ = file.Truncate(0) // better than a log that grows without limit
	}
	return file, nil
}

// runningLogWriter returns the log writer of an earlier supervisor; nil: none is running.
func (s *Supervisor) runningLogWriter() *process.Process {
	id, known := logs.Running(s.dir.root)
	if !known {
		return nil
	}
	writer, err := process.Adopt(id)
	if err != nil {
		return nil
	}
	return writer
}

// watchLogWriter returns when a log writer has ended, with the reason. It kills one that
// hangs.
func watchLogWriter(ctx context.Context, state string, writer *process.Process) error {
	var client *logs.Client
	closeClient := func() {
		if client != nil {
			client.Close()
			client = nil
		}
	}
	defer closeClient()
	ticker := time.NewTicker(writerPing)
	defer ticker.Stop()
	for heard := time.Now(); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-writer.Done():
			return fmt.Errorf("it has ended: %s", writer.Exit())
		case <-ticker.C:
		}
		var err error
		if client == nil {
			client, err = logs.Dial(state, writerPing)
		}
		if err == nil {
			err = client.Ping(writerPing)
		}
		switch {
		case err == nil:
			heard = time.Now()
		case time.Since(heard) > writerHung:
			_ = writer.SignalGroup(syscall.SIGKILL) // it may have ended just now
			<-writer.Done()
			return fmt.Errorf("it did not answer: %w", err)
		default:
			closeClient()
		}
	}
}

// endLogWriter ends the log writer when all output of the nodes is stored, unless a node still
// runs that would block without it. Whether this succeeds does not matter to the end of the
// stack. On several hosts each host ends its own, because KeepLogs would start another one.
func (s *Supervisor) endLogWriter() {
	if s.cfg.Several {
		return
	}
	for _, n := range s.statusBoard.snapshot().Nodes {
		if n.PID != 0 {
			return
		}
	}
	writer := s.letLogWriter()
	if writer == nil {
		return
	}
	_ = writer.Signal(syscall.SIGTERM)      // it may have ended just now
	_ = writer.SignalGroup(syscall.SIGCONT) // a stopped one has to run to handle the signal
	select {
	case <-writer.Done():
		return
	case <-time.After(writerGrace):
	}
	s.log.Warn("the log writer did not store the last lines of the nodes in time, and was killed", "grace", writerGrace)
	_ = writer.SignalGroup(syscall.SIGKILL)
	<-writer.Done()
}

// letLogWriter stops keeping the log writer, and returns the one that is running; nil: none is.
func (s *Supervisor) letLogWriter() *process.Process {
	k := &s.logs
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stop != nil {
		k.stop()
		<-k.done
		k.stop = nil
		if k.writer != nil && k.writer.Exit() == "" {
			return k.writer
		}
	}
	return s.runningLogWriter()
}

// KeepLogs keeps a log writer running for the nodes of this host until ctx ends, also while
// another host's supervisor looks after them. The writer outlives it. self is the path of this
// program, and environ the writer's environment.
func KeepLogs(ctx context.Context, stateDir, self string, environ []string, log *slog.Logger) {
	s := &Supervisor{cfg: Config{Self: self, Environ: environ, StateDir: stateDir}, dir: dirAt(stateDir), log: log}
	s.keepLogWriter(ctx)
}
