package redis

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"strings"

	"holdfast/internal/redis/hashslot"
)

// recordKey returns the name of the record of a request to an application. Each part is hashed
// with its length, so that no two requests share a record.
func recordKey(app string, r *Request) string {
	h := sha256.New()
	part := func(p string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	part(r.IdempotencyKey)
	if app != "" {
		part("in")
		part(app)
	}
	if r.Owner != "" {
		part("of")
		part(r.Owner)
	}
	if r.Atomic {
		part("atomic") // its record has another form
	}
	if r.Script != nil {
		part(r.Script.SHA)
		for _, k := range r.Keys {
			part(k)
		}
		part("")
		for _, a := range r.Args {
			part(a)
		}
	}
	for _, cmd := range r.Commands {
		part("")
		for _, a := range cmd {
			part(a)
		}
	}
	return idemPrefix + string(h.Sum(nil)[:hashSize])
}

// itemRecord returns the name of the record of command i of a pipeline.
func itemRecord(record string, i int) string {
	if i == 0 {
		return record
	}
	return record + strconv.Itoa(i)
}

// recordIn returns the name of a record with a hash tag of a slot.
func recordIn(slot int, record string) string {
	return idemPrefix + "{" + hashslot.Tag(slot) + "}" + strings.TrimPrefix(record, idemPrefix)
}

// isOfRequest reports whether a record is that of a whole request, and not of a part of it.
func isOfRequest(record string) bool { return len(record) == len(idemPrefix)+hashSize }
