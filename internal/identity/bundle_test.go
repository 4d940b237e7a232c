package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"holdfast/internal/encrypt"
)

func TestABundleIsOneFileWithTheTokenThatWasPutIn(t *testing.T) {
	t.Parallel()
	token, _ := newToken(t, newAuthority(t, "shop", start), "two", start)
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
			ok(t, WriteBundle(path, must[[]byte](t)(Bundle(token, e))))
			if info := must[os.FileInfo](t)(os.Stat(path)); info.Mode().Perm() != 0o600 {
				t.Errorf("others may read it: %v", info.Mode())
			}

			content := must[[]byte](t)(os.ReadFile(path))
			if bytes.Contains(content, []byte(tokenPrefix)) == (name != "in clear") {
				t.Errorf("the token is in clear, or is not: %.80s", content)
			}
			if c.passphrase != "" { // opening it takes a quarter of a second, and the tests of package encrypt cover it
				if _, err := ReadBundle(bytes.NewReader(content), encrypt.Key{}); err == nil || !strings.Contains(err.Error(), "its passphrase") {
					t.Errorf("without its key: %v", err)
				}
				return
			}

			k := must[encrypt.Key](t)(encrypt.KeyOf("", []byte(c.identity)))
			if got := must[Token](t)(ReadBundle(bytes.NewReader(content), k)); got.Encode() != token.Encode() {
				t.Errorf("it comes back as %+v", got)
			}
			if name == "in clear" {
				return
			}

			stranger := must[*age.X25519Identity](t)(age.GenerateX25519Identity())
			for _, k := range []encrypt.Key{{}, must[encrypt.Key](t)(encrypt.KeyOf("", []byte(stranger.String())))} {
				if _, err := ReadBundle(bytes.NewReader(content), k); !errors.As(err, new(*encrypt.KeyError)) || !strings.Contains(err.Error(), "the bundle") {
					t.Errorf("without its key: %v", err)
				}
			}

			for at := 0; at < len(content); at += 41 {
				bad := bytes.Clone(content)
				bad[at] ^= 0x10
				if _, err := ReadBundle(bytes.NewReader(bad), k); err == nil {
					t.Fatalf("with another byte %d it is taken", at)
				}
			}
		})
	}
}

func TestAFileThatIsNoBundleIsRefused(t *testing.T) {
	t.Parallel()
	token, _ := newToken(t, newAuthority(t, "shop", start), "two", start)
	good := must[[]byte](t)(Bundle(token, encrypt.Encryption{}))
	changed := func(change func(map[string]any)) []byte {
		var f map[string]any
		ok(t, json.Unmarshal(good, &f))
		change(f)
		return must[[]byte](t)(json.Marshal(f))
	}
	for name, c := range map[string]struct {
		content []byte
		words   string
	}{
		"nothing":       {nil, "no bundle"},
		"half":          {good[:len(good)/2], "no bundle"},
		"another file":  {[]byte("apiVersion: v1\n"), "no bundle"},
		"other JSON":    {[]byte("{}"), "no bundle"},
		"a newer one":   {changed(func(f map[string]any) { f["version"] = 2 }), "format 2"},
		"another host":  {changed(func(f map[string]any) { f["host"] = "three" }), `for host "three"`},
		"another stack": {changed(func(f map[string]any) { f["stack"] = "store" }), `stack "store"`},
		"without token": {changed(func(f map[string]any) { f["token"] = "" }), "incomplete"},
		"a long one":    {bytes.Repeat([]byte(" "), maxBundle+1), "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadBundle(bytes.NewReader(c.content), encrypt.Key{})
			if !errors.As(err, new(*DamagedError)) || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, c.words)
			}
		})
	}
}
