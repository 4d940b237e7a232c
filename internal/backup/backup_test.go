package backup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"holdfast/internal/encrypt"
	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
)

// everyKind writes values of every kind to a server, small and large ones.
func everyKind(t *testing.T, s *redistest.Server) {
	t.Helper()
	long := strings.Repeat("abcdefgh", 2000)
	s.Do("SET", "number", "12345")
	s.Do("SET", "negative", "-70000")
	s.Do("SET", "text", "value")
	s.Do("SET", "long", long)
	s.Do("SET", "expires", "x", "EX", "1000")
	s.Do("SADD", "numbers", "1", "2", "300000")
	s.Do("SADD", "words", "a", "b")
	s.Do("HSET", "hash", "a", "1", "b", "2")
	s.Do("ZADD", "sorted", "1.5", "a", "-inf", "b")
	s.Do("RPUSH", "list", "a", "b", "c")
	s.Do("PFADD", "hll", "a", "b")
	for i := range 600 {
		n := fmt.Sprint(i)
		s.Do("HSET", "big-hash", n, long[:200])
		s.Do("SADD", "big-set", "member"+n)
		s.Do("ZADD", "big-sorted", n+".25", "member"+n)
		s.Do("RPUSH", "big-list", long[:150+i])
	}
	for range 300 {
		s.Do("XADD", "stream", "*", "field", "value")
	}
	s.Do("XGROUP", "CREATE", "stream", "group", "0")
	s.Do("XREADGROUP", "GROUP", "group", "consumer", "COUNT", "50", "STREAMS", "stream", ">")
	s.Do("XADD", "empty-stream", "1-1", "a", "b")
	s.Do("XDEL", "empty-stream", "1-1")
	s.Do("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
	s.Do("EVAL", "redis.call('SELECT', 9) for i = 1, 70 do redis.call('SET', 'k' .. i, i, 'EX', 500) end", "0")
}

// dumpOf returns a dump of a server.
func dumpOf(t *testing.T, s *redistest.Server) []byte {
	t.Helper()
	d, err := redis.OpenDump(t.Context(), redis.Way{}, s.Addr, "default", "x", "")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b, err := io.ReadAll(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func countsOf(t *testing.T, s *redistest.Server) map[int]Count {
	t.Helper()
	counts := map[int]Count{}
	for line := range strings.Lines(s.Do("INFO", "keyspace")) {
		var db int
		var c Count
		if n, _ := fmt.Sscanf(line, "db%d:keys=%d,expires=%d", &db, &c.Keys, &c.Expires); n == 3 {
			counts[db] = c
		}
	}
	return counts
}

func TestADumpIsFollowedAndItsKeysAreCounted(t *testing.T) {
	t.Parallel()
	c := redistest.Start(t, 1, 0)
	master, replica := c.Nodes[0], c.Nodes[1]
	everyKind(t, master)
	want := countsOf(t, master)
	redistest.Eventually(t, 10*time.Second, "the replica has everything", func() bool {
		return maps.Equal(countsOf(t, replica), want)
	})
	if want[0].Keys < 17 || want[9] != (Count{70, 70}) {
		t.Fatalf("the server has %v", want)
	}
	for _, s := range []*redistest.Server{master, replica} {
		dump := dumpOf(t, s)
		summary, err := Scan(bytes.NewReader(dump))
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(summary.Databases, want) {
			t.Errorf("counted %v, want %v", summary.Databases, want)
		}
		if summary.Redis == "" || summary.Memory == 0 || summary.Version < 10 {
			t.Errorf("it says %+v", summary)
		}
	}
	if info := replica.Do("INFO", "replication"); strings.Contains(info, "connected_slaves:1") {
		t.Errorf("a copy is over, and is still there:\n%s", info)
	}
	if out, err := exec.Command("redis-server", "--version").Output(); err != nil {
		t.Fatalf("%s %v", out, err)
	}
}

func TestAnUnknownKindOfValueIsNotCountedButItsChecksumIs(t *testing.T) {
	t.Parallel()
	dump := []byte("REDIS0099\xfe\x00\x1a\x01k\x05value\xff")
	sum := &rdbChecksum{}
	sum.update(dump)
	dump = binary.LittleEndian.AppendUint64(dump, sum.sum)
	summary, err := Scan(bytes.NewReader(dump))
	if err != nil || summary.Databases != nil || !strings.Contains(summary.Uncounted, "type 26") {
		t.Errorf("%+v, %v", summary, err)
	}
	dump[15] ^= 1
	if _, err := Scan(bytes.NewReader(dump)); !Unusable(err) {
		t.Errorf("a flipped bit gives %v", err)
	}
}

// small returns a small dump with a few kinds of value.
func small(t *testing.T) []byte {
	t.Helper()
	c := redistest.Start(t, 0, 0)
	s := c.Nodes[0]
	s.Do("SET", "a", "1")
	s.Do("SET", "b", strings.Repeat("abc", 200), "EX", "1000")
	s.Do("HSET", "hash", "a", "1")
	s.Do("SADD", "set", "x", "y")
	return dumpOf(t, s)
}

func written(t *testing.T, dump []byte, e encrypt.Encryption) (path string, content []byte) {
	t.Helper()
	f, err := Temp(t.TempDir(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := Manifest{Stack: "shop", Begun: time.Now().UTC(), Node: "redis-2", Role: "replica", Replication: Replication{"id", 7, 7}}
	if _, err := Write(f, bytes.NewReader(dump), m, e, []byte(`{"secret":"of the stack"}`), func(*Manifest) {}); err != nil {
		t.Fatal(err)
	}
	content, err = os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return f.Name(), content
}

func TestDamageAtEveryPlaceIsSeen(t *testing.T) {
	t.Parallel()
	dump := small(t)
	_, good := written(t, dump, encrypt.Encryption{})
	check := func(b []byte) error {
		_, _, err := Check(bytes.NewReader(b), encrypt.Key{})
		return err
	}
	if err := check(good); err != nil {
		t.Fatal(err)
	}
	bad := slices.Clone(good)
	for i := range good {
		if i > 2048 && i < manifestSize-block && i%61 != 0 {
			continue // in the many line ends after the manifest
		}
		bad[i] ^= 0x04
		if err := check(bad); !Unusable(err) {
			t.Fatalf("a flipped bit of byte %d of %d gives %v", i, len(good), err)
		}
		bad[i] = good[i]
	}
	for n := 0; n < len(good); n += 1 + n/40 {
		if err := check(good[:n]); !Unusable(err) {
			t.Fatalf("cut off at %d of %d gives %v", n, len(good), err)
		}
	}
	for _, n := range []int{len(good) - 1, len(good) - archiveEnd, block + manifestSize, block} {
		if err := check(good[:n]); !Unusable(err) {
			t.Errorf("cut off at %d of %d gives %v", n, len(good), err)
		}
	}
	if err := check(append(slices.Clone(good), 0)); !Unusable(err) {
		t.Errorf("one byte more gives %v", err)
	}
}

func TestADumpThatIsDamagedOnItsWayIsNoBackup(t *testing.T) {
	t.Parallel()
	dump := small(t)
	for _, bad := range [][]byte{dump[:len(dump)-1], dump[:len(dump)/2], append(slices.Clone(dump), 1), {}} {
		f, err := Temp(t.TempDir(), "test")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Write(f, bytes.NewReader(bad), Manifest{}, encrypt.Encryption{}, nil, func(*Manifest) {}); !Unusable(err) {
			t.Errorf("of %d bytes: %v", len(bad), err)
		}
		f.Close()
	}
}

func TestForeignFilesAreToldFromDamagedOnes(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"empty": "", "a dump": "REDIS0010", "gzip": "\x1f\x8b\x08", "text": strings.Repeat("text ", 400),
		"age": "age-encryption.org/v1\n", "a tar archive": "other.txt" + strings.Repeat("\x00", 248) + "ustar  \x00" + strings.Repeat("\x00", 700),
	} {
		if _, _, err := Check(strings.NewReader(content), encrypt.Key{}); !errors.As(err, new(*ForeignError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := bytes.Repeat([]byte{'\n'}, manifestSize)
	copy(newer, `{"format":"holdfast-backup/2"}`)
	head, _ := header(memberManifest, manifestSize, time.Now())
	if _, err := ReadManifest(bytes.NewReader(append(head, newer...))); !errors.As(err, new(*ForeignError)) {
		t.Errorf("a newer format: %v", err)
	}
}

func TestAnEncryptedBackupOpensWithItsKeyAlone(t *testing.T) {
	t.Parallel()
	dump := small(t)

	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	byRecipient, err := encrypt.For("", []string{id.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	byPassphrase, err := encrypt.For("correct horse", nil)
	if err != nil {
		t.Fatal(err)
	}

	key := func(passphrase, identity string) encrypt.Key {
		k, err := encrypt.KeyOf(passphrase, []byte(identity))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}

	stranger, _ := age.GenerateX25519Identity()
	for _, c := range []struct {
		e            encrypt.Encryption
		right, other encrypt.Key
	}{
		{byRecipient, key("", id.String()), key("", stranger.String())},
		{byPassphrase, key("correct horse", ""), key("wrong", "")},
	} {
		path, content := written(t, dump, c.e)
		if bytes.Contains(content, []byte("abcabc")) || bytes.Contains(content, []byte("of the stack")) {
			t.Error("something stands there in clear")
		}
		if _, depth, err := Check(bytes.NewReader(content), c.right); err != nil || depth != Structure {
			t.Errorf("with its key: %v, %v", depth, err)
		}
		if _, depth, err := Check(bytes.NewReader(content), encrypt.Key{}); err != nil || depth != Bytes {
			t.Errorf("without a key: %v, %v", depth, err)
		}
		if _, _, err := Check(bytes.NewReader(content), c.other); !errors.As(err, new(*encrypt.KeyError)) {
			t.Errorf("with another key: %v", err)
		}

		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := Dump(f, c.right)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, dump) {
			t.Errorf("the dump comes back with %d of %d bytes, %v", len(got), len(dump), err)
		}

		bad := slices.Clone(content)
		for i := block + manifestSize; i < len(content); i += 7 {
			bad[i] ^= 0x10
			if _, _, err := Check(bytes.NewReader(bad), encrypt.Key{}); !Unusable(err) {
				t.Fatalf("a flipped bit of byte %d gives %v", i, err)
			}
			bad[i] = content[i]
		}
	}
}

func TestVerifyingLoadsTheDumpIntoARedisOfItsOwn(t *testing.T) {
	t.Parallel()
	c := redistest.Start(t, 0, 0)
	s := c.Nodes[0]
	everyKind(t, s)
	// A key that has expired by the time that the dump is loaded is still counted.
	s.Do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	s.Do("SET", "brief", "x", "PX", "400")
	want := countsOf(t, s)
	path, _ := written(t, dumpOf(t, s), encrypt.Encryption{})
	gone := time.Now().Add(500 * time.Millisecond)
	redistest.Eventually(t, 5*time.Second, "the key has expired", func() bool { return time.Now().After(gone) })

	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal(err)
	}
	var dir string
	m, depth, err := Verify(t.Context(), f, encrypt.Key{}, program, func(s *Server) error {
		dir = s.dir
		if got, err := s.Do("GET", "text"); got != "value" || err != nil {
			t.Errorf("GET: %q, %v", got, err)
		}
		if _, err := s.Do("SET", "text", "x"); err == nil {
			t.Error("it takes writes")
		}
		return nil
	})
	if err != nil || depth != Loaded || !maps.Equal(m.Databases, want) {
		t.Errorf("%v, %v, %v, want %v", m.Databases, depth, err, want)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}

func TestARedisThatDoesNotLoadADumpSaysWhy(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Load(t.Context(), program, strings.NewReader("REDIS9999\xff12345678"))
	if !Unloadable(err) || !strings.Contains(err.Error(), "version 9999") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	slow, feed := io.Pipe()
	defer feed.Close()
	go func() {
		feed.Write([]byte("REDIS0010"))
		cancel()
	}()
	if _, err = Load(ctx, program, slow); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	slow.Close()
}

func TestAFullDiskIsAnError(t *testing.T) {
	t.Parallel()
	f, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = Write(f, bytes.NewReader(small(t)), Manifest{}, encrypt.Encryption{}, nil, func(*Manifest) {})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
}

func TestOldBackupsGoAndNothingElse(t *testing.T) {
	t.Parallel()
	dir := Dir(t.TempDir())
	touch := func(name string) {
		if err := os.WriteFile(dir.Where(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	others := []string{"notes.txt", "shop.tar", Name("shop-2", at), "shop-20260102-030405.tar"}
	for _, name := range others {
		touch(name)
	}
	for i := range 5 {
		touch(Name("shop", at.Add(time.Duration(i)*time.Hour)))
	}
	gone, err := Prune(t.Context(), dir, "shop", 2)
	if err != nil || !slices.Equal(gone, []string{Name("shop", at), Name("shop", at.Add(time.Hour)), Name("shop", at.Add(2*time.Hour))}) {
		t.Errorf("%v, %v", gone, err)
	}
	names, _ := dir.List(t.Context())
	if len(names) != len(others)+2 {
		t.Errorf("left: %v", names)
	}
}

func TestOnlyWhatAKilledBackupHasLeftIsRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	left, err := Temp(dir, "shop")
	if err != nil {
		t.Fatal(err)
	}
	left.Close() // as when the process is killed
	kept := map[string]bool{"shop-20260102-030405.000Z.tar": true, ".shop.x.part": true, ".shop..part": true, ".shop.1.part.tar": true}
	for name := range kept {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, base := range []string{"shop", "shop-2", "shop.1"} { // backups under way, also of other stacks
		f, err := Temp(dir, base)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		kept[filepath.Base(f.Name())] = true
	}
	other, err := Temp(dir, "shop-3") // left by another stack, which has to remove it itself
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	kept[filepath.Base(other.Name())] = true

	RemoveParts(dir, "shop")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(kept) {
		t.Errorf("left are %v, %v", entries, err)
	}
	for _, e := range entries {
		if !kept[e.Name()] {
			t.Errorf("%s is left", e.Name())
		}
	}
}
