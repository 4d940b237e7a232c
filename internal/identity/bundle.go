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

// Bundle is one file with all that a host needs to begin, for those who cannot join by
// network. Its key was made where the bundle was: the host replaces it when it renews its
// certificate for the first time.
type Bundle struct {
	Credentials Credentials
	// Payload is the caller's.
	Payload []byte
	Created time.Time
}

const (
	bundleFormat  = "holdfast host bundle"
	bundleVersion = 1
	// maxBundle bounds what is read into memory.
	maxBundle = 64 << 20
)

// bundleFields are a Bundle as it is written, in JSON.
type bundleFields struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Stack   string    `json:"stack"` // for those who look into the file
	Host    string    `json:"host"`
	Created time.Time `json:"created"`
	// Credentials are in PEM: key, certificate, authority.
	Credentials string `json:"credentials"`
	Payload     []byte `json:"payload,omitempty"`
}

// WriteBundle writes a bundle into a file (0600), whole or not at all.
func WriteBundle(path string, b Bundle, e encrypt.Encryption) error {
	var out bytes.Buffer
	if err := b.write(&out, e); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return writeWhole(path, out.Bytes())
}

func (b Bundle) write(to io.Writer, e encrypt.Encryption) error {
	text, err := b.Credentials.PEM()
	if err != nil {
		return err
	}
	peer := b.Credentials.Peer()
	if peer.Role != Host {
		return refuse(WrongUse, "a bundle is for a host, and this certificate is for %s", peer)
	}
	content, err := json.MarshalIndent(bundleFields{bundleFormat, bundleVersion, peer.Stack, peer.Name, b.Created.UTC(), string(text), b.Payload}, "", "  ")
	if err != nil {
		return err
	}
	if len(content) >= maxBundle {
		return fmt.Errorf("the bundle would have %d bytes, and at most %d can be read", len(content), maxBundle)
	}
	w, err := e.Writer(to)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(content, '\n')); err != nil {
		return err
	}
	return w.Close()
}

// ReadBundle reads a bundle. Its error is an *encrypt.KeyError about the key, an *Error
// where the bundle cannot be used, and a *DamagedError for anything else that is wrong
// with it.
func ReadBundle(r io.Reader, k encrypt.Key, now time.Time) (Bundle, error) {
	content, err := decrypted(r, k)
	if err != nil {
		return Bundle{}, err
	}
	var f bundleFields
	if err := json.Unmarshal(content, &f); err != nil || f.Format != bundleFormat {
		return Bundle{}, damaged("it is no bundle of a host, or is damaged: 'holdfast export host NAME' makes one")
	}
	if f.Version != bundleVersion {
		return Bundle{}, damaged("it is a bundle of format %d, and this version of Holdfast knows format %d: use the version that made it", f.Version, bundleVersion)
	}
	c, err := ParseCredentials([]byte(f.Credentials))
	if err != nil {
		return Bundle{}, err
	}
	if p := c.Peer(); p.Role != Host || p.Name != f.Host || p.Stack != f.Stack {
		return Bundle{}, damaged("it says that it is for host %q of stack %q, and its certificate is for %s of stack %s", f.Host, f.Stack, p, p.Stack)
	}
	if err := checkTime(c, now); err != nil {
		return Bundle{}, refuse(ReasonOf(err), "the bundle cannot be used: %w", err)
	}
	return Bundle{c, f.Payload, f.Created}, nil
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
