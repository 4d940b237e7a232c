package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/backup"
	"holdfast/internal/encrypt"
	"holdfast/internal/supervise"
)

var backupUnderLoad = fault{
	name: "backup", about: "two backups under load; while the second is made, the replica that is copied is killed. Each is loaded into a Redis of its own: every write that was acknowledged before it began is in it",
	course: true, needs: needReplicas | needKV, promise: unnoticed,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.backUpAll(ctx, func(node string) error {
			fc.recordInjection(node)
			return nil
		}, func(node string) error {
			st, err := fc.stack.status(ctx)
			if err != nil {
				return err
			}
			n, _ := st.Node(node)
			return fc.kill(ctx, n)
		})
	},
}

var backupKillSupervisor = fault{
	name: "backup-kill-supervisor", about: "a backup under load, and SIGKILL to the supervisor while it is made; it has every write that was acknowledged before it began",
	course: true, double: true, needs: needReplicas | needKV, promise: unnoticed,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.backUpAll(ctx, func(string) error { return restartSupervisor.inject(ctx, fc) })
	},
}

var backupKillMaster = fault{
	name: "backup-kill-master", about: "a backup under load, and SIGKILL to the Redis master while it is made; it has every write that was acknowledged before it began",
	double: true, needs: needReplicas | needKV | needFailover, promise: held,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.backUpAll(ctx, func(string) error { return killMaster.inject(ctx, fc) })
	},
}

// backUpAll takes one backup for each function. The function is called when a node has begun to
// send its data.
func (fc *faultContext) backUpAll(ctx context.Context, begun ...func(node string) error) error {
	dir, err := os.MkdirTemp("", "holdfast-drill-backup-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	m := fc.startMarks(ctx)
	defer m.end()
	if err := await(ctx, "writes that mark the moment of a backup", 5*time.Second, m.enough); err != nil {
		return errors.Join(err, m.failure())
	}
	for _, b := range begun {
		if err := fc.backUp(ctx, dir, m, b); err != nil {
			return err
		}
	}
	return m.failure()
}

// marks are writers whose values only grow. So the value of such a key in a backup shows at which
// moment the backup was made.
type marks struct {
	keys         leftKeys
	prefix       string
	acknowledged [markers]atomic.Int64
	failed       atomic.Value // error
	stop         context.CancelFunc
	all          sync.WaitGroup
}

const (
	markers    = 4
	markPause  = 10 * time.Millisecond
	markLeast  = 10 // writes by each writer before a backup
	markLimits = 5 * time.Second
)

func (fc *faultContext) startMarks(ctx context.Context) *marks {
	ctx, cancel := context.WithCancel(ctx)
	m := &marks{
		keys:   leftKeys{State: fc.stack.state(), TokenFile: fc.tokenFile, Trusted: fc.stack.ownStack, App: fc.stack.loads.app},
		prefix: fc.prefix + "mark-", stop: cancel,
	}
	if st, err := fc.stack.status(ctx); err == nil {
		m.keys.Entry = st.Entry
	}
	for i := range m.acknowledged {
		m.all.Go(func() {
			for n := int64(1); sleep(ctx, markPause) == nil; n++ {
				if err := m.write(ctx, i, n); err != nil && ctx.Err() == nil {
					m.failed.Store(err)
				} else if err == nil {
					m.acknowledged[i].Store(n)
				}
			}
		})
	}
	return m
}

func (m *marks) key(i int) string { return m.prefix + strconv.Itoa(i) }

func (m *marks) write(ctx context.Context, i int, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, markLimits)
	defer cancel()
	body, err := json.Marshal([][]string{{"SET", m.key(i), strconv.FormatInt(n, 10)}})
	if err != nil {
		return err
	}
	answer, err := m.keys.ask(ctx, http.MethodPost, "/pipeline", body)
	if err == nil && bytes.Contains(answer, []byte(`"error"`)) {
		err = fmt.Errorf("a write is answered %s", answer)
	}
	return err
}

func (m *marks) enough() bool {
	for i := range m.acknowledged {
		if m.acknowledged[i].Load() < markLeast {
			return false
		}
	}
	return true
}

// end ends the writers and waits for them.
func (m *marks) end() {
	m.stop()
	m.all.Wait()
}

// failure returns why a write failed; nil: none failed.
func (m *marks) failure() error {
	if err, _ := m.failed.Load().(error); err != nil {
		return fmt.Errorf("a write that marks the moment of a backup failed: %w", err)
	}
	return nil
}

// backUp takes a backup, calls begun when a node has begun to send its data, and checks that the
// backup has all writes that were acknowledged before.
func (fc *faultContext) backUp(ctx context.Context, dir string, m *marks, begun func(node string) error) error {
	var before [markers]int64
	for i := range before {
		before[i] = m.acknowledged[i].Load()
	}

	var failed error
	copied := 0
	done, err := supervise.Backup(ctx, supervise.BackupConfig{
		Stack: fc.stack.spec, BaseDir: fc.stack.base, StateDir: fc.stack.state(), Version: "drill",
		Store: backup.Dir(dir), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Began: func(node string) {
			if copied++; copied == 1 {
				fc.say("backing up %s", node)
				failed = begun(node)
			}
		},
	})
	if failed != nil || err != nil {
		return errors.Join(failed, err)
	}
	if done.Role != "replica" {
		return fmt.Errorf("the backup was taken from %s, a %s", done.Node, done.Role)
	}

	f, err := backup.Open(done.Where)
	if err != nil {
		return err
	}
	defer f.Close()

	program, err := supervise.RedisServer(fc.stack.spec.Redis, fc.stack.state())
	if err != nil {
		return err
	}

	_, _, err = backup.Verify(ctx, f, encrypt.Key{}, program, func(server *backup.Server) error {
		for i, acknowledged := range before {
			text, err := server.Do("GET", m.key(i))
			n, _ := strconv.ParseInt(text, 10, 64)
			if err != nil || n < acknowledged {
				return fmt.Errorf("the backup of %s has %q of a key whose value %d was acknowledged before it began: %w", done.Node, text, acknowledged, errors.Join(errLostInBackup, err))
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("verify the backup: %w", err)
	}

	fc.evidence("a backup of %s with %d keys, taken by %d copies in %d ms, has every write that was acknowledged before it", done.Node, done.Keys, copied, int64(done.Seconds*1000))
	return nil
}

var errLostInBackup = errors.New("an acknowledged write is not in the backup")
