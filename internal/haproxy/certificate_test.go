package haproxy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/certificate"
)

// The list is in a directory with a blank in its name, which would end a word of a command.
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
	shown := func() (got, prints []string) {
		t.Helper()
		all, err := c.ListCertificates(t.Context(), list)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			got, prints = append(got, s.Path), append(prints, s.SHA1)
		}
		return got, prints
	}
	if got, prints := shown(); !slices.Equal(got, paths) || !slices.Equal(prints, want) {
		t.Fatalf("%q %q; want %q %q", got, prints, paths, want)
	}
	if err := c.SetCertificate(t.Context(), paths[1], string(write("one").PEM)); err != nil {
		t.Fatal(err)
	}
	if _, prints := shown(); prints[1] != certificate.SHA1(made["one"].Leaf) || prints[0] != want[0] {
		t.Errorf("after a change: %q", prints)
	}
	// The certificates after it are known by their names. (HAProxy does not verify the chain.)
	chained := slices.Concat(made["one"].PEM, made["two"].PEM[:strings.Index(string(made["two"].PEM), "-----BEGIN PRIVATE")])
	if err := c.SetCertificate(t.Context(), paths[1], string(chained)); err != nil {
		t.Fatal(err)
	}
	if all, err := c.ListCertificates(t.Context(), list); err != nil || len(all[0].Chain) != 0 || len(all[1].Chain) != 1 || !strings.Contains(all[1].Chain[0], "O=Holdfast, self-signed by /O=Holdfast") {
		t.Errorf("with a chain: %+v, %v", all, err)
	}
	if _, err := c.ListCertificates(t.Context(), list+"2"); !errors.Is(err, ErrNoList) || !strings.Contains(err.Error(), "list2") {
		t.Errorf("of a list that is not there: %v", err)
	}
}
