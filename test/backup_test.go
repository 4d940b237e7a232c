package test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/backup"
	"holdfast/internal/encrypt"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/supervise"
)

// writers are clients, each of which increments a key of its own.
type writers struct {
	acknowledged [4]atomic.Int64
	refused      atomic.Int64 // answers 503, after which a client may try again
	unknown      atomic.Int64 // answers 504, whose outcome is unknown
	wrong        atomic.Value // an answer that no client should get
	stop         chan struct{}
	all          sync.WaitGroup
}

func (w *writers) key(i int) string { return fmt.Sprintf("writer-%d", i) }

func startWriters(entry string) *writers {
	w := &writers{stop: make(chan struct{})}
	for i := range w.acknowledged {
		w.all.Go(func() {
			client := http.Client{Timeout: 30 * time.Second}
			for n := int64(1); ; n++ {
				select {
				case <-w.stop:
					return
				default:
				}
				resp, err := client.Post(entry+"/set/"+w.key(i), "", strings.NewReader(strconv.FormatInt(n, 10)))
				if err != nil {
					w.wrong.Store(err.Error())
					continue
				}
				resp.Body.Close()
				switch resp.StatusCode {
				case http.StatusOK:
					w.acknowledged[i].Store(n)
				case http.StatusServiceUnavailable:
					w.refused.Add(1)
				case http.StatusGatewayTimeout: // the answer says that the outcome is unknown
					w.unknown.Add(1)
				default:
					w.wrong.Store(resp.Status)
				}
			}
		})
	}
	return w
}

func (w *writers) end(t *testing.T) {
	t.Helper()
	close(w.stop)
	w.all.Wait()
	if wrong := w.wrong.Load(); wrong != nil {
		t.Errorf("a writer was answered %v", wrong)
	}
}

// backupContent returns a digest of database 0 of a backup, its manifest, and a function that
// returns the values of its keys.
func backupContent(t *testing.T, path string) (digest string, m backup.Manifest, value func(key string) int64) {
	t.Helper()
	f, err := backup.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	program, err := exec.LookPath(redistest.Program("server"))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]int64{}
	m, _, err = backup.Verify(t.Context(), f, encrypt.Key{}, program, func(s *backup.Server) (err error) {
		for i := range 4 {
			key := fmt.Sprintf("writer-%d", i)
			text, _ := s.Do("GET", key)
			values[key], _ = strconv.ParseInt(text, 10, 64)
		}
		digest, err = s.Do("EVAL_RO", `local keys, d = redis.call('KEYS', '*'), '' table.sort(keys)
			for _, k in ipairs(keys) do d = redis.sha1hex(d .. k .. redis.call('DUMP', k)) end return d`, "0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return digest, m, func(key string) int64 { return values[key] }
}

// writeOnce sends a write with an idempotency key.
func writeOnce(t *testing.T, url, key string) string {
	t.Helper()
	req, _ := http.NewRequest(http.MethodPost, url, nil)
	req.Header.Set("Idempotency-Key", key)
	_, body := answerOf(t)(http.DefaultClient.Do(req))
	return body
}

func TestABackupUnderWritesIsRestoredElsewhereAndWhileTheStackRuns(t *testing.T) {
	beside(t, oneStack)
	// The records of requests have to last as long as the test, even on a slow machine.
	const remember = "apps: {web: {kv: {remember: 20m}}}\n"
	s := newInstance(t, minimal(t)+remember)
	s.must("up", "-d")
	entry := s.awaitHealthy().Entry
	for i := range 50 {
		answerOf(t)(http.Post(fmt.Sprintf("%s/hset/hash-%d/field/%d", entry, i, i), "", nil))
	}
	// The data is larger than a pipe's buffer and than the small disk below.
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise)
	if code, said := answerOf(t)(http.Post(entry+"/set/noise", "", bytes.NewReader(noise))); code != 200 {
		t.Fatal(said)
	}
	if got := writeOnce(t, entry+"/incr/counter", "before"); got != `{"result":1}` {
		t.Fatal(got)
	}

	// The backup is taken under writes, and has every write that was acknowledged before it began.
	w := startWriters(entry)
	s.await("writes", 10*time.Second, func() bool { return w.acknowledged[3].Load() > 20 })
	var before [4]int64
	for i := range before {
		before[i] = w.acknowledged[i].Load()
	}
	file := filepath.Join(s.dir, "shop.tar")
	var done supervise.BackupRecord
	if err := json.Unmarshal([]byte(s.must("backup", "-o", file, "--json")), &done); err != nil || done.Role != "replica" || done.Where != file {
		t.Fatalf("%+v, %v", done, err)
	}
	digest, m, value := backupContent(t, file)
	for i, n := range before {
		if got := value(w.key(i)); got < n {
			t.Errorf("%s is %d in the backup, and %d was acknowledged before it began", w.key(i), got, n)
		}
	}
	if m.Databases[0].Keys < 55 || m.Replication.Offset < m.Replication.MasterOffset {
		t.Errorf("manifest: %+v", m)
	}
	if out := s.must("backup", "verify", file); !strings.Contains(out, "is good") {
		t.Error(out)
	}

	// A stack that was never up starts with the backup, and has the same data.
	other := newInstance(t, minimal(t)+remember)
	other.must("restore", file)
	other.must("up", "-d")
	there := other.awaitHealthy().Entry
	copied := filepath.Join(other.dir, "copy.tar")
	other.must("backup", "-o", copied)
	if got, _, _ := backupContent(t, copied); got != digest {
		t.Errorf("the restored data has the digest %s, and the backup %s", got, digest)
	}
	if got := writeOnce(t, there+"/incr/counter", "before"); got != `{"result":1}` {
		t.Errorf("a request that is in the backup was carried out again: %s", got)
	}
	if got := writeOnce(t, there+"/incr/counter", "after"); got != `{"result":2}` {
		t.Errorf("a new request is answered %s", got)
	}

	// In the running stack writes wait for the restore, and none gets a wrong answer.
	if got := writeOnce(t, entry+"/incr/counter", "lost"); got != `{"result":2}` {
		t.Error(got)
	}
	if said := s.fails(2, "restore", file); !strings.Contains(said, "--yes") {
		t.Error(said)
	}
	s.interruptsABackupAndARestore(file)
	unknown := w.unknown.Load()
	var restored supervise.Restored
	if err := json.Unmarshal([]byte(s.must("restore", file, "--yes", "--json")), &restored); err != nil || restored.Aside == "" {
		t.Fatalf("%+v, %v", restored, err)
	}
	w.end(t)
	s.awaitHealthy()
	t.Logf("Redis was stopped for %d ms, %d requests were told to come again", restored.Stopped, w.refused.Load())
	if n := w.unknown.Load() - unknown; n > 0 {
		t.Errorf("of %d writes nobody knows whether they were carried out", n)
	}
	if _, err := os.Stat(filepath.Join(restored.Aside, "redis-1", "data", "appendonlydir")); err != nil {
		t.Errorf("the former data: %v", err)
	}
	if got := writeOnce(t, entry+"/incr/counter", "before"); got != `{"result":1}` {
		t.Errorf("a request that is in the backup was carried out again: %s", got)
	}
	if got := writeOnce(t, entry+"/incr/counter", "lost"); got != `{"result":2}` {
		t.Errorf("a request whose effect was lost is answered %s", got)
	}
	expect(t, entry+"/hget/hash-49/field", 200, `{"result":"49"}`)

	// Damaged or missing backups change nothing.
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(s.dir, "bad.tar")
	for name, damaged := range map[string][]byte{
		"cut off": whole[:len(whole)-3000], "a flipped bit": append(bytes.Clone(whole[:len(whole)-2500]), append([]byte{whole[len(whole)-2500] ^ 1}, whole[len(whole)-2499:]...)...),
		"foreign": []byte("something else"), "empty": nil,
	} {
		if err := os.WriteFile(bad, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, command := range [][]string{{"backup", "verify", bad}, {"restore", bad, "--yes"}} {
			if said := s.fails(1, command...); !strings.Contains(said, "bad.tar") {
				t.Errorf("%s: %s", name, said)
			}
		}
	}
	s.backsUpToAFullDisk()
	s.fails(2, "restore", filepath.Join(s.dir, "missing.tar"), "--yes")
	s.fails(2, "backup", "verify", s.dir)
	expect(t, entry+"/get/counter", 200, `{"result":"2"}`)
}

// interruptsABackupAndARestore presses Ctrl-C at each before it has changed anything, and at a
// restore that the supervisor has begun.
func (s *instance) interruptsABackupAndARestore(file string) {
	s.t.Helper()
	// Nothing reads its standard output.
	stalled := s.command("backup", "-o", "-")
	out, err := stalled.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	requireWords(s.t, s.interrupts(stalled, "Copying the data", nil), "interrupted: no backup was made")
	left, _ := filepath.Glob(filepath.Join(s.state, "backup", ".*"))
	if len(left) > 0 {
		s.t.Errorf("it has left %v", left)
	}

	verifying := s.command("restore", file, "--yes")
	requireWords(s.t, s.interrupts(verifying, "Verifying the backup", nil), "interrupted: nothing was changed")
	if _, err := os.Stat(filepath.Join(s.state, "restore")); err == nil {
		s.t.Error("it has left what it made ready")
	}
	restoring := s.command("restore", file, "--yes")
	decided := func() bool { _, err := os.Stat(filepath.Join(s.state, "restore.json")); return err == nil }
	requireWords(s.t, s.interrupts(restoring, "Restoring it", decided), "interrupted: the restore goes on in the background", "status")
	s.await("the restore that goes on", 60*time.Second, func() bool { return s.status().Change == nil && !decided() })
	s.awaitHealthy()
	for _, path := range []string{"restore", "restore.json"} {
		if _, err := os.Stat(filepath.Join(s.state, path)); err == nil {
			s.t.Errorf("it has left %s", path)
		}
	}
}

// interrupts presses Ctrl-C at a command once it prints when and the condition holds, and returns
// what it printed. Its exit code has to be 1.
func (s *instance) interrupts(cmd *exec.Cmd, when string, and func() bool) string {
	s.t.Helper()
	errs, err := cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	var said strings.Builder
	for in := bufio.NewScanner(errs); in.Scan(); {
		fmt.Fprintln(&said, in.Text())
		if !strings.Contains(in.Text(), when) {
			continue
		}
		if and != nil {
			s.await(when, 20*time.Second, and)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			s.t.Fatal(err)
		}
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		s.t.Errorf("%v, after Ctrl-C: exit code %d", cmd.Args, code)
	}
	return said.String()
}

// backsUpToAFullDisk takes a backup to a disk that becomes full in the middle.
func (s *instance) backsUpToAFullDisk() {
	s.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	small := filepath.Join(s.dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=256k,mode=700"); err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		if err := syscall.Unmount(small, 0); err != nil {
			s.t.Error(err)
		}
	}()
	old := filepath.Join(small, "b.tar")
	if err := os.WriteFile(old, []byte("the last one"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	requireWords(s.t, s.fails(1, "backup", "-o", old), "no backup was made", "is full", "what was there before has not changed")
	if kept, err := os.ReadFile(old); err != nil || string(kept) != "the last one" {
		s.t.Errorf("the last backup is %q, %v", kept, err)
	}
	if left, _ := filepath.Glob(filepath.Join(small, ".*")); len(left) > 0 {
		s.t.Errorf("it has left %v", left)
	}
}

func TestASupervisorThatDiesInARestoreLeavesTheNextToCarryItThrough(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, minimal(t))
	s.must("up", "-d")
	entry := s.awaitHealthy().Entry
	expect(t, entry+"/set?key=a&value=old", 200, "OK. We have set a to be old")
	file := filepath.Join(s.dir, "b.tar")
	s.must("backup", "-o", file)
	expect(t, entry+"/set?key=a&value=new", 200, "OK. We have set a to be new")
	s.must("switchover", "--to", "redis-3") // not the master that the stack has begun with

	for _, after := range []time.Duration{0, 150 * time.Millisecond, 400 * time.Millisecond} {
		restore := s.command("restore", file, "--yes")
		if err := restore.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(filepath.Join(s.state, "restore.json")); err == nil || time.Now().After(deadline) {
				break
			}
		}
		time.Sleep(after) // it dies at another step each time
		s.killSupervisor()
		_ = restore.Wait() // it may have been too late for any harm
		s.must("up", "-d")
		s.awaitHealthy()
		expect(t, entry+"/get?key=a", 200, "old")
		if _, err := os.Stat(filepath.Join(s.state, "restore.json")); err == nil {
			t.Error("restore.json is left")
		}
		expect(t, entry+"/set?key=a&value=new", 200, "OK. We have set a to be new")
	}
}

func TestScheduledBackupsAreTakenKeptAndTellOfFailures(t *testing.T) {
	beside(t, oneStack)
	s, _ := runningInstance(t, minimal(t)+"backup: {every: 1m, keep: 2, to: ./backups}\n")
	at := filepath.Join(s.dir, "backups")
	count := func() int {
		files, _ := filepath.Glob(filepath.Join(at, s.name+"-*.tar"))
		return len(files)
	}
	s.await("the first backup", 20*time.Second, func() bool { return s.status().Backup.Last != nil && !s.status().Backup.Next.IsZero() })
	if b := s.status().Backup; !b.Last.Scheduled || b.Failure != nil || count() != 1 {
		t.Errorf("%+v, and %d files", b, count())
	}
	for range 3 { // backups by hand go to the same place, and the oldest are removed
		s.must("backup")
	}
	if count() != 2 {
		t.Errorf("%d backups are kept", count())
	}
	// The place cannot be written to any more.
	if err := os.Rename(at, at+"-away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if said := s.fails(2, "backup"); !strings.Contains(said, "backups") {
		t.Error(said)
	}
	if out, _, _ := s.run("status"); !strings.Contains(out, "last backup") {
		t.Error(out)
	}
}
