package agree

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits. Each member checks them by itself when it carries an entry of the log
// out. Another value would give existing logs another meaning, so a change needs
// a higher commandVersion.
const (
	MaxDocument = 1 << 20  // bytes of one document
	MaxBatch    = 4 << 20  // bytes of one write
	MaxAll      = 16 << 20 // bytes of all documents with their names
	MaxName     = 255      // bytes of a name
)

// AnyRevision is the Revision of a Change that is made whatever revision the
// document has, and also if there is no such document.
const AnyRevision = ^uint64(0)

// Change is the new content of one document, or its deletion.
type Change struct {
	Name string `json:"name"`
	Data []byte `json:"data,omitempty"`
	// Revision is the revision that the document must have, or else the write ends
	// in ErrConflict. 0 means that there must be no such document.
	Revision uint64 `json:"revision,omitempty"`
	// Delete deletes the document; Data is ignored then.
	Delete bool `json:"delete,omitempty"`
}

// commandVersion is the version of log entries that this program understands. A
// member that reads another one stops: if it skipped the entry, its documents
// would differ from those of the others.
const commandVersion = 1

// command is an entry of the log. A command without changes only marks the
// beginning of a leadership.
type command struct {
	Version int      `json:"version"`
	Term    uint64   `json:"term,omitempty"` // the writer's
	Changes []Change `json:"changes,omitempty"`
}

func (c command) encode() []byte {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // none of its fields can fail to encode
	}
	return data
}

func decodeCommand(data []byte) (command, error) {
	var c command
	err := json.Unmarshal(data, &c)
	if err == nil && c.Version != commandVersion {
		err = unknownVersion(c.Version)
	}
	if err != nil {
		err = fmt.Errorf("an entry of the log cannot be read: %w", err)
	}
	return c, err
}

func unknownVersion(version int) error {
	return fmt.Errorf("it has version %d and this program knows version %d: start the version that the other hosts run", version, commandVersion)
}

// validate returns an error for changes that no member would carry out.
func validate(changes []Change) error {
	size := 0
	for _, c := range changes {
		if err := validName(c.Name); err != nil {
			return err
		}
		if len(c.Data) > MaxDocument {
			return fmt.Errorf("%s has %d bytes and a document may have %d: %w", c.Name, len(c.Data), MaxDocument, ErrTooLarge)
		}
		size += len(c.Name) + len(c.Data)
	}
	if size > MaxBatch {
		return fmt.Errorf("the write has %d bytes and may have %d: %w", size, MaxBatch, ErrTooLarge)
	}
	return nil
}

func validName(name string) error {
	if name == "" || len(name) > MaxName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("%q is no name of a document: 1 to %d bytes of UTF-8 without control characters", name, MaxName)
	}
	return nil
}
