package encrypt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestKeysThatAreNone(t *testing.T) {
	t.Parallel()
	for _, r := range []string{"age1x", "ssh", "AGE-SECRET-KEY-1QQQ"} {
		if _, err := For("", []string{r}); !errors.As(err, new(*KeyError)) || strings.Contains(fmt.Sprint(err), "QQQ") {
			t.Errorf("%s: %v", r, err)
		}
	}
	if _, err := KeyOf("", []byte("nonsense")); !errors.As(err, new(*KeyError)) {
		t.Error(err)
	}
	for content, want := range map[string]string{"secret": "secret", "a b\n": "a b", "x\r\n": "x"} {
		if got, err := ReadPassphrase([]byte(content)); got != want || err != nil {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	for _, content := range []string{"", "\n", "a\nb"} {
		if got, err := ReadPassphrase([]byte(content)); err == nil {
			t.Errorf("%q: %q", content, got)
		}
	}
}

func TestTheFirstBytesTellHowAFileIsEncrypted(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for kind, by := range map[string]struct {
		passphrase string
		recipients []string
	}{
		"":            {},
		ByPassphrase:  {passphrase: "correct horse"},
		ForRecipients: {recipients: []string{id.Recipient().String()}},
	} {
		e, err := For(by.passphrase, by.recipients)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		w, err := e.Writer(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "content"); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := KindOf(b.Bytes()[:min(40, b.Len())]); got != kind || e.Kind != kind {
			t.Errorf("%q is taken for %q", kind, got)
		}
	}
}
