package backup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Format is the name and version of the file format.
const Format = "holdfast-backup/1"

// Manifest says what a backup is, and what it takes to prove it.
type Manifest struct {
	Format string `json:"format"`
	// Stack is the name of the stack.
	Stack string `json:"stack"`
	// Begun is when the backup began: every write that was acknowledged before it
	// is in the backup. Seconds is how long it took.
	Begun   time.Time `json:"begun"`
	Seconds float64   `json:"seconds"`
	// Node is the redis node that the data came from, and Role what it was.
	Node        string      `json:"node"`
	Role        string      `json:"role"`
	Replication Replication `json:"replication"`
	// Databases are the keys of each database, by number, those included that have
	// expired and are not removed yet; nil: they could not be counted, and Uncounted
	// is why.
	Databases map[int]Count `json:"databases"`
	Uncounted string        `json:"uncounted,omitempty"`
	// Dump is the data as Redis made it, before it was encrypted, and Memory how
	// much of it Redis used for it, in bytes; 0: unknown.
	Dump   Contents `json:"dump"`
	Memory int64    `json:"memory"`
	// Encryption is how the data is encrypted: passphrase or recipients; empty: it
	// is not.
	Encryption string   `json:"encryption,omitempty"`
	Versions   Versions `json:"versions"`
}

// Replication is where in the stream of all writes the backup stands.
type Replication struct {
	// ID is the replication id of the master, and Offset the position in its stream
	// that the data has: every write before it, none after.
	ID     string `json:"id"`
	Offset int64  `json:"offset"`
	// MasterOffset is the master's position when the backup began. It is not above
	// Offset.
	MasterOffset int64 `json:"master_offset"`
}

// Contents are some bytes.
type Contents struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Versions are those of the programs that made a backup, and of Redis' format.
type Versions struct {
	Holdfast string `json:"holdfast"`
	Redis    string `json:"redis"`
	RDB      int    `json:"rdb"`
}

// Keys is how many keys the backup has in all; -1: they were not counted.
func (m Manifest) Keys() (n int64) {
	if m.Databases == nil {
		return -1
	}
	for _, c := range m.Databases {
		n += c.Keys
	}
	return n
}

// manifestSize is how many bytes a manifest takes in the file. It is written when the
// data is, and stands before it.
const manifestSize = 16 << 10

// encode returns the manifest as it stands in the file.
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

// decodeManifest reads what encode wrote.
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
