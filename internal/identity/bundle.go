package identity

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/internal/encrypt"
)

// A bundle is a join token in a file. It is for new hosts that get the token by other means
// than pasting: configuration management, a USB stick, an orchestrator's secret. Like a token it
// is valid once, and usually it is valid for longer.

// DefaultBundleLife is how long a bundle is valid by default, and MaxBundleLife is the longest
// time that may be chosen.
const (
	DefaultBundleLife = 7 * 24 * time.Hour
	MaxBundleLife     = 30 * 24 * time.Hour
)

const (
	bundleFormat  = "holdfast host bundle"
	bundleVersion = 1
	// maxBundle bounds what is read into memory.
	maxBundle = 64 << 10
)

// bundleFields is the JSON form of a bundle. All fields but Token are for people who look into
// the file.
type bundleFields struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Stack   string    `json:"stack"`
	Host    string    `json:"host"`
	Expires time.Time `json:"expires"`
	Token   string    `json:"token"`
}

// Bundle returns the content of a bundle with this token.
func Bundle(t Token, e encrypt.Encryption) ([]byte, error) {
	content, err := json.MarshalIndent(bundleFields{bundleFormat, bundleVersion, t.Stack, t.Host, t.Expires.UTC(), t.Encode()}, "", "  ")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := e.Writer(&out)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(append(content, '\n')); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// WriteBundle writes a bundle to a file with mode 0600, whole or not at all.
func WriteBundle(path string, content []byte) error { return writeWhole(path, content) }

// ReadBundle returns the token in a bundle. The error is an *encrypt.KeyError if the key is
// missing or wrong, and a *DamagedError for anything else that is wrong with the bundle.
// ReadBundle does not check whether the token can still be used: only the stack knows that.
func ReadBundle(r io.Reader, k encrypt.Key) (Token, error) {
	content, err := decrypted(r, k)
	if err != nil {
		return Token{}, err
	}
	var f bundleFields
	if err := json.Unmarshal(content, &f); err != nil || f.Format != bundleFormat {
		return Token{}, damaged("it is no bundle of a host, or is damaged: 'holdfast export host NAME' makes one")
	}
	if f.Version != bundleVersion {
		return Token{}, damaged("it is a bundle of format %d, and this version of Holdfast knows format %d: use the version that made it", f.Version, bundleVersion)
	}
	t, err := ParseToken(f.Token)
	if err != nil {
		return Token{}, damaged("its join token is incomplete or was changed: 'holdfast export host NAME' makes another one")
	}
	if t.Host != f.Host || t.Stack != f.Stack {
		return Token{}, damaged("it says that it is for host %q of stack %q, and its token is for host %s of stack %s", f.Host, f.Stack, t.Host, t.Stack)
	}
	return t, nil
}

func decrypted(r io.Reader, k encrypt.Key) ([]byte, error) {
	begin := bufio.NewReader(io.LimitReader(r, 2*maxBundle))
	head, err := begin.Peek(40)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	from := io.Reader(begin)
	if kind := encrypt.KindOf(head); kind != "" {
		from, err = k.Reader(begin, "the bundle", kind)
		if errors.As(err, new(*encrypt.KeyError)) {
			return nil, err
		}
		if err != nil {
			return nil, damaged("%w", err)
		}
	}
	content, err := io.ReadAll(io.LimitReader(from, maxBundle+1))
	switch {
	case err != nil:
		return nil, damaged("it cannot be read to its end: %w", err)
	case len(content) > maxBundle:
		return nil, damaged("it has more than %d bytes", maxBundle)
	}
	return content, nil
}
