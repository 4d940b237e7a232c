package once

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"strings"

	"holdfast/internal/redis/hashslot"
	"holdfast/internal/redis/request"
)

// Record returns the name of the record of a request to an application. Each part is hashed
// with its length, so that no two requests share a record.
func Record(app string, r *request.Request) string {
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
	return Prefix + string(h.Sum(nil)[:HashSize])
}

// ItemRecord returns the name of the record of command i of a pipeline.
func ItemRecord(record string, i int) string {
	if i == 0 {
		return record
	}
	return record + strconv.Itoa(i)
}

// RecordIn returns the name of a record with a hash tag of a slot.
func RecordIn(slot int, record string) string {
	return Prefix + "{" + hashslot.Tag(slot) + "}" + strings.TrimPrefix(record, Prefix)
}

// IsOfRequest reports whether a record is that of a whole request, and not of a part of it.
func IsOfRequest(record string) bool { return len(record) == len(Prefix)+HashSize }
