package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/google/renameio/v2"

	"holdfast/internal/private"
)

// The files of a host, each with mode 0600.
const (
	// hostFile has the key, the certificate and the authority's certificate. It alone decides
	// which credentials the host has, so that a crash between the writes of two files leaves
	// a consistent state.
	hostFile = "host.pem"
	// trustFile has the authority's certificate again, for Redis and HAProxy, which need it in
	// a file of its own. It is written after hostFile.
	trustFile = "ca.pem"
	// authorityFile has the authority with its key.
	authorityFile = "authority.pem"
	// pendingFile has the key of a host that is joining. If the answer to its request is lost,
	// the host can ask again with the same key.
	pendingFile = "pending-key.pem"
)

// Dir is a host's directory for its identity. One process at a time writes to it.
type Dir struct {
	path  string
	write func(path string, content []byte) error // tests make it fail
}

// OpenDir returns a host's directory for its identity, and makes it with mode 0700 if it does
// not exist.
func OpenDir(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	return &Dir{path, writeWhole}, nil
}

// HostFile returns the path of the file with the host's key and certificate. Redis takes it as
// tls-cert-file and as tls-key-file, HAProxy as crt.
func (d *Dir) HostFile() string { return filepath.Join(d.path, hostFile) }

// TrustFile returns the path of the file with the authority's certificate. Redis takes it as
// tls-ca-cert-file, HAProxy as ca-file.
func (d *Dir) TrustFile() string { return filepath.Join(d.path, trustFile) }

// Save writes the credentials of the host, whole or not at all. It returns the paths of the
// files that it has changed, also together with an error: their readers have to read them again.
func (d *Dir) Save(c Credentials) (changed []string, err error) {
	d.sweep()
	text, err := c.PEM()
	if err != nil {
		return nil, err
	}
	if changed, err = d.replace(nil, hostFile, text); err != nil {
		return changed, err
	}
	if changed, err = d.replace(changed, trustFile, certificatePEM(c.Authority)); err != nil {
		return changed, err
	}
	return changed, d.dropPending()
}

// Load reads the credentials of the host. It also completes a Save that a crash has
// interrupted. The error is fs.ErrNotExist if the host has no credentials.
func (d *Dir) Load() (Credentials, error) {
	text, err := private.Read(d.HostFile())
	if err != nil {
		return Credentials{}, err
	}
	c, err := ParseCredentials(text)
	if err != nil {
		return Credentials{}, fmt.Errorf("%s is damaged: %w: put it back from a backup, or join again", d.HostFile(), err)
	}
	if _, err := d.replace(nil, trustFile, certificatePEM(c.Authority)); err != nil {
		return Credentials{}, err
	}
	return c, d.dropPending()
}

// SaveAuthority writes the authority with its key.
func (d *Dir) SaveAuthority(a *Authority) error {
	text, err := a.PEM()
	if err != nil {
		return err
	}
	_, err = d.replace(nil, authorityFile, text)
	return err
}

// LoadAuthority reads the authority. The error is fs.ErrNotExist if the host does not have it.
func (d *Dir) LoadAuthority() (*Authority, error) {
	path := filepath.Join(d.path, authorityFile)
	text, err := private.Read(path)
	if err != nil {
		return nil, err
	}
	a, err := ParseAuthority(text)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: %w: put it back from a backup or from another host that has it", path, err)
	}
	return a, nil
}

// PendingKey returns the key of a host that is joining. If there is none yet, it makes one,
// which stays until Save.
func (d *Dir) PendingKey() (*ecdsa.PrivateKey, error) {
	path := filepath.Join(d.path, pendingFile)
	text, err := private.Read(path)
	switch {
	case err == nil:
		key, _, err := parsePEM(text, 0)
		if err == nil {
			return key, nil
		}
		// A damaged key can be replaced: no certificate has been issued for it yet.
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}

	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	if text, err = keyPEM(key); err != nil {
		return nil, err
	}
	return key, d.write(path, text)
}

func (d *Dir) dropPending() error {
	err := os.Remove(filepath.Join(d.path, pendingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// unfinished matches the name of a temporary file that a killed process left behind. It may
// have a key in it, and is removed for that.
var unfinished = regexp.MustCompile(`^\.(host|ca|authority|pending-key)\.pem[0-9]+$`)

func (d *Dir) sweep() {
	entries, _ := os.ReadDir(d.path)
	for _, e := range entries {
		if e.Type().IsRegular() && unfinished.MatchString(e.Name()) {
			os.Remove(filepath.Join(d.path, e.Name())) // after a failure the next sweep tries again
		}
	}
}

// replace writes a file, unless it has this content and mode 0600 already, and then returns
// changed with its path added.
func (d *Dir) replace(changed []string, name string, content []byte) ([]string, error) {
	path := filepath.Join(d.path, name)
	info, statErr := os.Lstat(path)
	had, err := private.Read(path)
	if err == nil && statErr == nil && info.Mode().Perm() == 0o600 && bytes.Equal(had, content) {
		return changed, nil
	}
	if err := d.write(path, content); err != nil {
		return changed, err
	}
	return append(changed, path), nil
}

// writeWhole replaces a file whole or not at all, even if the power fails meanwhile.
func writeWhole(path string, content []byte) error {
	dir := filepath.Dir(path)
	// renameio.WriteFile would keep the mode of the file that it replaces.
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithPermissions(0o600))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer f.Cleanup()
	if _, err := f.Write(content); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	// The rename survives a loss of power only once the directory is synced.
	parent, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer parent.Close()
	if err := parent.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// ParseCertificate parses one certificate in PEM.
func ParseCertificate(text []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != blockCertificate || len(bytes.TrimSpace(rest)) > 0 {
		return nil, damaged("it is not one certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, damaged("a certificate cannot be read: %w", err)
	}
	return cert, nil
}
