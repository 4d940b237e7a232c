package identity

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// modes returns the files of a directory with their modes.
func modes(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	for _, e := range must[[]os.DirEntry](t)(os.ReadDir(dir)) {
		info := must[os.FileInfo](t)(e.Info())
		all = append(all, e.Name()+" "+info.Mode().String())
	}
	return strings.Join(all, ", ")
}

func TestTheFilesOfAHostAreItsOwn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "deep", "identity")
	dir := must[*Dir](t)(OpenDir(path))
	if _, err := dir.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a new host: %v", err)
	}
	if _, err := dir.LoadAuthority(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a new host: %v", err)
	}
	a := newAuthority(t, "shop", start)
	ok(t, dir.SaveAuthority(a))
	c := newHost(t, a, "one", start)
	changed := must[[]string](t)(dir.Save(c))
	if !slices.Equal(changed, []string{dir.HostFile(), dir.TrustFile()}) {
		t.Errorf("changed are %v", changed)
	}
	if got, want := modes(t, path), "authority.pem -rw-------, ca.pem -rw-------, host.pem -rw-------"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if info := must[os.FileInfo](t)(os.Stat(path)); info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v", info.Mode())
	}

	if got := must[Credentials](t)(dir.Load()); !got.Key.Equal(c.Key) || !got.Certificate.Equal(c.Certificate) || !got.Authority.Equal(a.Certificate()) {
		t.Error("the credentials come back as others")
	}
	if got := must[*Authority](t)(dir.LoadAuthority()); got.Stack() != "shop" || !got.key.Equal(a.key) {
		t.Error("the authority comes back as another")
	}

	if changed := must[[]string](t)(dir.Save(c)); len(changed) != 0 {
		t.Errorf("the same again changes %v", changed)
	}
	if changed := must[[]string](t)(dir.Save(newHost(t, a, "one", start))); !slices.Equal(changed, []string{dir.HostFile()}) {
		t.Errorf("a new certificate changes %v", changed)
	}
	ok(t, os.Chmod(dir.TrustFile(), 0o644))
	ok(t, os.Chmod(dir.HostFile(), 0o640))
	must[[]string](t)(dir.Save(must[Credentials](t)(dir.Load())))
	if got := modes(t, path); strings.Contains(got, "r--") {
		t.Errorf("others may read: %s", got)
	}
}

// The crash happens between the writes of two files, or during one of them.
func TestACrashInTheMiddleLeavesTheOldOrTheNew(t *testing.T) {
	t.Parallel()
	shop, store := newAuthority(t, "shop", start), newAuthority(t, "store", start)
	before, after := newHost(t, shop, "one", start), newHost(t, store, "uno", start)
	crash := errors.New("crash")
	for writes := range 3 {
		for _, torn := range []bool{false, true} {
			path := t.TempDir()
			dir := must[*Dir](t)(OpenDir(path))
			must[[]string](t)(dir.Save(before))
			left := writes
			dir.write = func(path string, content []byte) error {
				if left == 0 {
					if torn { // the temporary file that renameio leaves beside the file
						ok(t, os.WriteFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"123"), content[:len(content)/2], 0o600))
					}
					return crash
				}
				left--
				return writeWhole(path, content)
			}
			changed, err := dir.Save(after)
			if (err != nil) != (writes < 2) || len(changed) != writes {
				t.Errorf("after %d writes: %v, %v", writes, changed, err)
			}

			// The next process starts.
			dir = must[*Dir](t)(OpenDir(path))
			if torn && writes < 2 && !strings.Contains(modes(t, path), ".pem123") {
				t.Error("nothing was torn")
			}
			got := must[Credentials](t)(dir.Load())
			want := before
			if writes > 0 {
				want = after
			}
			if !got.Certificate.Equal(want.Certificate) || !got.Authority.Equal(want.Authority) {
				t.Errorf("after %d writes it is %s", writes, got.Peer())
			}
			trusted := must[[]byte](t)(os.ReadFile(dir.TrustFile()))
			if cert, err := ParseCertificate(trusted); err != nil || !cert.Equal(want.Authority) {
				t.Errorf("after %d writes ca.pem is another authority's (%v)", writes, err)
			}
			must[[]string](t)(dir.Save(got))
			if left := modes(t, path); strings.Contains(left, ".pem123") {
				t.Errorf("a torn file stays: %s", left)
			}
		}
	}
}

func TestADamagedFileIsSaidAndNotUsed(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	one, two := newHost(t, a, "one", start), newHost(t, newAuthority(t, "shop", start), "two", start)
	good := must[[]byte](t)(one.PEM())
	other := must[[]byte](t)(two.PEM())
	authority := must[[]byte](t)(a.PEM())
	key, cert := good[:len(good)/4], certificatePEM(one.Certificate)
	otherKey := must[[]byte](t)(keyPEM(two.Key))
	for name, text := range map[string][]byte{
		"empty":                    nil,
		"nonsense":                 []byte("nonsense"),
		"half a key":               key,
		"no certificate":           must[[]byte](t)(keyPEM(one.Key)),
		"no authority":             good[:len(good)-len(certificatePEM(a.Certificate()))],
		"another authority":        slices.Concat(good[:len(good)-len(certificatePEM(a.Certificate()))], certificatePEM(two.Authority)),
		"another key":              slices.Concat(otherKey, cert, certificatePEM(a.Certificate())),
		"an authority's":           authority,
		"two":                      slices.Concat(good, other),
		"its own certificate, too": slices.Concat(must[[]byte](t)(keyPEM(one.Key)), cert, cert),
	} {
		t.Run(name, func(t *testing.T) {
			dir := must[*Dir](t)(OpenDir(t.TempDir()))
			ok(t, os.WriteFile(dir.HostFile(), text, 0o600))
			_, err := dir.Load()
			if err == nil || !strings.Contains(err.Error(), "host.pem is damaged") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
			if name != "an authority's" {
				ok(t, os.WriteFile(filepath.Join(dir.path, authorityFile), text, 0o600))
				if _, err := dir.LoadAuthority(); err == nil || !strings.Contains(err.Error(), "authority.pem is damaged") {
					t.Errorf("as an authority: %v", err)
				}
			}
		})
	}
}

func TestAFileThatLeadsElsewhereIsNotRead(t *testing.T) {
	t.Parallel()
	dir := must[*Dir](t)(OpenDir(t.TempDir()))
	elsewhere := must[*Dir](t)(OpenDir(t.TempDir()))
	must[[]string](t)(elsewhere.Save(newHost(t, newAuthority(t, "shop", start), "one", start)))
	ok(t, os.Symlink(elsewhere.HostFile(), dir.HostFile()))
	if _, err := dir.Load(); err == nil {
		t.Error("it was read")
	}
}

func TestTheKeyOfAHostThatIsJoiningStaysTheSameUntilItHasJoined(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	dir := must[*Dir](t)(OpenDir(path))
	first, err := dir.PendingKey()
	ok(t, err)
	again, err := must[*Dir](t)(OpenDir(path)).PendingKey()
	ok(t, err)
	if !first.Equal(again) {
		t.Error("it is another key")
	}
	if got, want := modes(t, path), "pending-key.pem -rw-------"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	ok(t, os.WriteFile(filepath.Join(path, pendingFile), []byte("half"), 0o600))
	if other, err := dir.PendingKey(); err != nil || other.Equal(first) {
		t.Errorf("a damaged one: %v", err)
	}
	must[[]string](t)(dir.Save(newHost(t, newAuthority(t, "shop", start), "one", start)))
	if got := modes(t, path); strings.Contains(got, "pending") {
		t.Errorf("left is %s", got)
	}
}

func TestADirectoryThatCannotBeWrittenKeepsTheOldCertificateInForce(t *testing.T) {
	t.Parallel()
	a, c := newAuthority(t, "shop", start), newClock(start)
	one := newHost(t, a, "one", start)
	k := keeperOf(t, one, sameMember(a, c.now, one.Peer(), DefaultLife), c.now)
	old := k.Credentials()
	k.dir.write = func(string, []byte) error { return errors.New("no space left on device") }
	if changed, err := k.Renew(t.Context()); err == nil || len(changed) != 0 {
		t.Errorf("%v, %v", changed, err)
	}
	onDisk := must[Credentials](t)(k.dir.Load())
	if !k.Credentials().Certificate.Equal(old.Certificate) || !onDisk.Certificate.Equal(old.Certificate) {
		t.Error("memory or disk has another certificate")
	}
	k.dir.write = writeWhole
	c.add(time.Hour)
	changed := must[[]string](t)(k.Renew(t.Context()))
	onDisk = must[Credentials](t)(k.dir.Load())
	if !slices.Equal(changed, []string{k.dir.HostFile()}) || !onDisk.Certificate.Equal(k.Credentials().Certificate) || onDisk.Certificate.Equal(old.Certificate) {
		t.Errorf("afterwards %v changed", changed)
	}
}
