package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"holdfast/internal/encrypt"
)

func TestABundleIsOneFileThatComesBackAsItWas(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	b := Bundle{newHost(t, a, "two", start), []byte("the plan\x00"), start}
	id := must[*age.X25519Identity](t)(age.GenerateX25519Identity())
	for name, c := range map[string]struct {
		passphrase string
		recipients []string
		identity   string
	}{
		"in clear":        {},
		"by a passphrase": {passphrase: "correct horse"},
		"for a recipient": {recipients: []string{id.Recipient().String()}, identity: id.String()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "two.bundle")
			ok(t, os.WriteFile(path, []byte("former"), 0o666))
			e := must[encrypt.Encryption](t)(encrypt.For(c.passphrase, c.recipients))
			ok(t, WriteBundle(path, b, e))
			if info := must[os.FileInfo](t)(os.Stat(path)); info.Mode().Perm() != 0o600 {
				t.Errorf("others may read it: %v", info.Mode())
			}
			content := must[[]byte](t)(os.ReadFile(path))
			if bytes.Contains(content, []byte("PRIVATE KEY")) == (name != "in clear") {
				t.Errorf("the key is in clear, or is not: %.80s", content)
			}
			if c.passphrase != "" { // to open it takes a quarter of a second, and package encrypt's tests do
				if _, err := ReadBundle(bytes.NewReader(content), encrypt.Key{}, start); err == nil || !strings.Contains(err.Error(), "its passphrase") {
					t.Errorf("without its key: %v", err)
				}
				return
			}
			k := must[encrypt.Key](t)(encrypt.KeyOf("", []byte(c.identity)))
			got := must[Bundle](t)(ReadBundle(bytes.NewReader(content), k, start))
			if !got.Credentials.Key.Equal(b.Credentials.Key) || got.Credentials.Peer() != b.Credentials.Peer() || !bytes.Equal(got.Payload, b.Payload) || !got.Created.Equal(start) {
				t.Errorf("it comes back as %+v", got)
			}
			if name == "in clear" {
				return
			}
			stranger := must[*age.X25519Identity](t)(age.GenerateX25519Identity())
			for _, k := range []encrypt.Key{{}, must[encrypt.Key](t)(encrypt.KeyOf("", []byte(stranger.String())))} {
				if _, err := ReadBundle(bytes.NewReader(content), k, start); !errors.As(err, new(*encrypt.KeyError)) || !strings.Contains(err.Error(), "the bundle") {
					t.Errorf("without its key: %v", err)
				}
			}
			for at := 0; at < len(content); at += 41 {
				bad := bytes.Clone(content)
				bad[at] ^= 0x10
				if _, err := ReadBundle(bytes.NewReader(bad), k, start); err == nil {
					t.Fatalf("with another byte %d it is taken", at)
				}
			}
		})
	}
}

func TestABundleThatIsNoneOrTooOldIsRefused(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	var good bytes.Buffer
	ok(t, Bundle{newHost(t, a, "two", start), nil, start}.write(&good, encrypt.Encryption{}))
	changed := func(change func(map[string]any)) []byte {
		var f map[string]any
		ok(t, json.Unmarshal(good.Bytes(), &f))
		change(f)
		return must[[]byte](t)(json.Marshal(f))
	}
	for name, c := range map[string]struct {
		content []byte
		at      time.Time
		words   string
	}{
		"nothing":           {nil, start, "no bundle"},
		"half":              {good.Bytes()[:good.Len()/2], start, "no bundle"},
		"another file":      {[]byte("apiVersion: v1\n"), start, "no bundle"},
		"other JSON":        {[]byte("{}"), start, "no bundle"},
		"a newer one":       {changed(func(f map[string]any) { f["version"] = 2 }), start, "format 2"},
		"another host":      {changed(func(f map[string]any) { f["host"] = "three" }), start, `for host "three"`},
		"another stack":     {changed(func(f map[string]any) { f["stack"] = "store" }), start, `stack "store"`},
		"without key":       {changed(func(f map[string]any) { f["credentials"] = "" }), start, "private key"},
		"after its end":     {good.Bytes(), start.Add(91 * 24 * time.Hour), "ended at 2026-05-30"},
		"with a slow clock": {good.Bytes(), start.Add(-25 * time.Hour), "clock is behind"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadBundle(bytes.NewReader(c.content), encrypt.Key{}, c.at)
			if err == nil || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, c.words)
			}
		})
	}
	operator := issue(t, a, grant(t, "shop", Operator, "anna"), start)
	err := WriteBundle(filepath.Join(t.TempDir(), "x"), Bundle{operator, nil, start}, encrypt.Encryption{})
	wantReason(t, errors.Unwrap(err), WrongUse)
}
