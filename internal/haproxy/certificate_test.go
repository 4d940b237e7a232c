package haproxy

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/certificate"
)

// A list of certificates in a directory with a blank in its name, which ends a word of a command.
func TestAListOfCertificatesIsReadAndChanged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "list")
	made := map[string]certificate.Pair{}
	var paths, want []string
	write := func(name string) certificate.Pair {
		pair, err := certificate.SelfSigned([]string{name + ".example"}, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		made[name] = pair
		return pair
	}
	for _, name := range []string{"two", "one"} {
		path := filepath.Join(dir, name+".pem")
		if err := os.WriteFile(path, write(name).PEM, 0o600); err != nil {
			t.Fatal(err)
		}
		paths, want = append(paths, path), append(want, certificate.SHA1(made[name].Leaf))
	}
	if err := os.WriteFile(list, []byte("two.pem\none.pem\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startWith(t, fmt.Sprintf("global\n    crt-base '%s'\nfrontend secure\n    bind 'unix@%s' ssl crt-list '%s'\n    default_backend web\n", dir, filepath.Join(dir, "x"), list))
	got, prints, err := c.Fingerprints(t.Context(), list)
	if err != nil || !slices.Equal(got, paths) || !slices.Equal(prints, want) {
		t.Fatalf("%q %q, %v; want %q %q", got, prints, err, paths, want)
	}
	if err := c.SetCertificate(t.Context(), paths[1], string(write("one").PEM)); err != nil {
		t.Fatal(err)
	}
	if _, prints, err = c.Fingerprints(t.Context(), list); err != nil || prints[1] != certificate.SHA1(made["one"].Leaf) || prints[0] != want[0] {
		t.Errorf("after a change: %q, %v", prints, err)
	}
	if _, _, err := c.Fingerprints(t.Context(), list+"2"); err == nil || !strings.Contains(err.Error(), "list2") {
		t.Errorf("of a list that is not there: %v", err)
	}
}
