package backup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Format is the name and version of the file format.
const Format = "holdfast-backup/1"

// Manifest describes a backup, with everything that is needed to verify it.
type Manifest struct {
	Format string `json:"format"`
	// Stack is the name of the stack.
	Stack string `json:"stack"`
	// Begun is when the backup began. Every write that was acknowledged before is in
	// the backup. Seconds is how long it took.
	Begun   time.Time `json:"begun"`
	Seconds float64   `json:"seconds"`
	// Node is the redis node that the data came from, and Role its role.
	Node        string      `json:"node"`
	Role        string      `json:"role"`
	Replication Replication `json:"replication"`
	// Databases are the numbers of keys of each database, by its number. They include
	// keys that have expired and are not removed yet. It is nil if the keys could not be
	// counted; then Uncounted is why.
	Databases map[int]Count `json:"databases"`
	Uncounted string        `json:"uncounted,omitempty"`
	// Dump is the size and digest of the dump before encryption. Memory is how much
	// memory Redis used for the data, in bytes, or 0 if unknown.
	Dump   Contents `json:"dump"`
	Memory int64    `json:"memory"`
	// Encryption is how the data is encrypted: passphrase, recipients, or empty if it is
	// not.
	Encryption string   `json:"encryption,omitempty"`
	Versions   Versions `json:"versions"`
}

// Replication is the position of the backup in the stream of all writes.
type Replication struct {
	// ID is the replication ID of the master, and Offset the position in its stream:
	// the data has every write before it, and none after.
	ID     string `json:"id"`
	Offset int64  `json:"offset"`
	// MasterOffset is the master's position when the backup began. It is at most
	// Offset.
	MasterOffset int64 `json:"master_offset"`
}

// Contents is the size and the digest of some bytes.
type Contents struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Versions are the versions of the programs that made a backup, and of Redis' format.
type Versions struct {
	Holdfast string `json:"holdfast"`
	Redis    string `json:"redis"`
	RDB      int    `json:"rdb"`
}

// Keys returns how many keys the backup has in all databases, or -1 if they were not
// counted.
func (m Manifest) Keys() (n int64) {
	if m.Databases == nil {
		return -1
	}
	for _, c := range m.Databases {
		n += c.Keys
	}
	return n
}

// manifestSize is how many bytes a manifest takes in the file. The size is fixed
// because the manifest is before the data in the file, but is written after it.
const manifestSize = 16 << 10

// encode returns the manifest in the form that is in the file.
func (m Manifest) encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	if len(b) >= manifestSize {
		return nil, fmt.Errorf("the manifest has %d bytes, and %d are the most: there are too many databases", len(b), manifestSize-1)
	}
	return append(b, bytes.Repeat([]byte{'\n'}, manifestSize-len(b))...), nil
}

// decodeManifest parses the result of encode.
func decodeManifest(b []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return m, damaged("the manifest cannot be read: %w", err)
	}
	if m.Format != Format {
		return m, &ForeignError{fmt.Sprintf("the backup has the format %.40q, and this version of Holdfast reads %q", m.Format, Format)}
	}
	return m, nil
}
