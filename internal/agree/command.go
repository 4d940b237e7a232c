package agree

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits. They are judged when an entry of the log is carried out, and so by each
// member for itself: another value is another meaning of the log and needs a
// higher commandVersion.
const (
	MaxDocument = 1 << 20  // bytes of one document
	MaxBatch    = 4 << 20  // bytes of one write
	MaxAll      = 16 << 20 // bytes of all documents with their names
	MaxName     = 255      // bytes of a name
)

// AnyRevision as a Change's Revision: the change is made whatever is there.
const AnyRevision = ^uint64(0)

// Change is one document's new content, or its end.
type Change struct {
	Name string `json:"name"`
	Data []byte `json:"data,omitempty"`
	// Revision is the one that the document has to have: 0 for one that is not
	// there.
	Revision uint64 `json:"revision,omitempty"`
	// Delete ends the document; Data is ignored.
	Delete bool `json:"delete,omitempty"`
}

// commandVersion is the newest kind of log entry that this program understands.
// A member that meets a newer one stops: to pass it over would make its documents
// differ from the others'.
const commandVersion = 1

// command is an entry of the log. Without changes it only marks that a leader
// began.
type command struct {
	Version int      `json:"version"`
	Term    uint64   `json:"term,omitempty"` // the writer's
	Changes []Change `json:"changes,omitempty"`
}

func (c command) encode() []byte {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // it holds nothing that could fail
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

// validate refuses what no member would carry out.
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
