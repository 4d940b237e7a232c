package backup

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"strconv"
)

// This file reads a Redis dump (RDB) without a Redis server. It parses the structure from
// the first byte to the last, verifies the checksum, and counts the keys; values are
// skipped. The format is that of rdb.c and rdb.h of Redis 7.4, which includes that of
// 7.0 to 7.2 and of Valkey 8.

// Summary is what Scan has found in a dump.
type Summary struct {
	// Version is the version of the format.
	Version int
	// Redis is the version of the server that made it, or empty if the dump does not say.
	Redis string
	// Memory is how much memory that server used, in bytes, or 0 if the dump does not say.
	Memory int64
	// Databases has the key counts of each database that is not empty, by the database's
	// number. Keys that have expired but are not removed yet are counted.
	Databases map[int]Count
	// Uncounted is why the keys could not be counted, or empty if they were.
	Uncounted string
}

// Count is how many keys a database has, and how many of them expire.
type Count struct {
	Keys    int64 `json:"keys"`
	Expires int64 `json:"expires"`
}

// Scan reads a dump to its end. The error is a *DamagedError if it is cut off, damaged,
// or not a dump; otherwise it is the reader's own error.
func Scan(r io.Reader) (Summary, error) {
	sums := &rdbChecksum{from: r}
	s := &rdbScan{in: bufio.NewReaderSize(sums, 256<<10)}
	s.Databases = map[int]Count{}

	err := s.scan()
	switch {
	case sums.err != nil: // the reader's own error, not the end of the dump
		return Summary{}, sums.err
	case errors.Is(err, errUnknownType):
		// The dump is of a newer Redis. Its checksum can still be verified.
		s.Uncounted, s.Databases = err.Error(), nil
		if _, err := io.Copy(io.Discard, s.in); err != nil {
			return Summary{}, err
		}
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return Summary{}, damaged("the dump ends in the middle")
	case err != nil:
		return Summary{}, damaged("%w", err)
	}
	if !sums.right() {
		return Summary{}, damaged("the checksum of the dump is wrong")
	}
	return s.Summary, nil
}

var errUnknownType = errors.New("the keys cannot be counted")

// rdbScan parses the structure of a dump.
type rdbScan struct {
	Summary
	in *bufio.Reader
	db int
}

// Opcodes (rdb.h, RDB_OPCODE_…). Any other byte in their place is the type of a key's value.
const (
	opSlotInfo     = 244
	opFunction     = 245
	opModuleAux    = 247
	opIdle         = 248
	opFrequency    = 249
	opAux          = 250
	opResize       = 251
	opExpireMillis = 252
	opExpire       = 253
	opSelect       = 254
	opEnd          = 255
)

func (s *rdbScan) scan() error {
	var head [9]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return err
	}

	version, err := strconv.Atoi(string(head[5:]))
	if string(head[:5]) != "REDIS" || err != nil {
		return errors.New("it does not begin as a Redis dump does")
	}
	s.Version = version

	for expires := false; ; {
		code, err := s.in.ReadByte()
		if err != nil {
			return err
		}
		switch code {
		case opEnd:
			return s.end()
		case opExpireMillis, opExpire:
			expires = true
			err = s.skip(map[byte]int64{opExpireMillis: 8, opExpire: 4}[code])
		case opSelect, opResize, opSlotInfo, opFunction, opModuleAux, opIdle, opFrequency, opAux:
			err = s.opcode(code)
		default:
			if err = s.key(code); err == nil {
				c := s.Databases[s.db]
				c.Keys++
				if expires {
					c.Expires++
				}
				s.Databases[s.db], expires = c, false
			}
		}
		if err != nil {
			return err
		}
	}
}

// end reads what follows opEnd: the checksum, and nothing else.
func (s *rdbScan) end() error {
	if s.Version >= 5 {
		if err := s.skip(8); err != nil {
			return err
		}
	}
	if _, err := s.in.ReadByte(); err != io.EOF {
		return errors.New("the dump goes on after its end")
	}
	return nil
}

// opcode reads the data of an opcode other than those of expiry and end.
func (s *rdbScan) opcode(code byte) error {
	switch code {
	case opSelect:
		db, err := s.length()
		s.db = int(db)
		return err
	case opResize:
		return s.lengths(2)
	case opSlotInfo:
		return s.lengths(3)
	case opIdle:
		return s.lengths(1)
	case opFrequency:
		return s.skip(1)
	case opFunction:
		return s.strings(1)
	case opModuleAux:
		if err := s.lengths(3); err != nil { // module, "when" and its value
			return err
		}
		return s.module()
	}

	name, err := s.text()
	if err != nil {
		return err
	}
	value, err := s.text()
	switch name {
	case "redis-ver", "valkey-ver":
		s.Redis = value
	case "used-mem":
		s.Memory, _ = strconv.ParseInt(value, 10, 64)
	}
	return err
}

// key skips a key and its value (rdb.h, RDB_TYPE_…).
func (s *rdbScan) key(kind byte) error {
	if kind == 6 || kind == 8 || kind == 22 || kind == 23 || kind > 25 {
		return fmt.Errorf("%w: a value of type %d, in a dump of format %d, is unknown", errUnknownType, kind, s.Version)
	}
	if err := s.strings(1); err != nil {
		return err
	}
	switch kind {
	case 0, 9, 10, 11, 12, 13, 16, 17, 20: // a string, or a small value packed into one
		return s.strings(1)
	case 1, 2, 14: // list, set, list of packed lists
		return s.times(func() error { return s.strings(1) })
	case 3: // sorted set, its scores as text
		return s.times(s.scored)
	case 4: // hash
		return s.times(func() error { return s.strings(2) })
	case 5: // sorted set
		return s.times(func() error { return errors.Join(s.strings(1), s.skip(8)) })
	case 7:
		if err := s.lengths(1); err != nil {
			return err
		}
		return s.module()
	case 15, 19, 21:
		return s.stream(kind)
	case 18: // list of packed lists, each with its kind
		return s.times(func() error { return errors.Join(s.lengths(1), s.strings(1)) })
	case 24: // hash with fields that expire
		if err := s.skip(8); err != nil {
			return err
		}
		return s.times(func() error { return errors.Join(s.lengths(1), s.strings(2)) })
	case 25: // the same, packed into a string
		return errors.Join(s.skip(8), s.strings(1))
	}
	return fmt.Errorf("%w: type %d", errUnknownType, kind)
}

// scored skips a member with a score that is written as text.
func (s *rdbScan) scored() error {
	if err := s.strings(1); err != nil {
		return err
	}
	n, err := s.in.ReadByte()
	if err != nil || n >= 253 { // not a number, or infinite
		return err
	}
	return s.skip(int64(n))
}

// stream skips a stream (rdbSaveObject; 19 and 21 are newer forms of 15).
func (s *rdbScan) stream(kind byte) error {
	if err := s.times(func() error { return s.strings(2) }); err != nil {
		return err
	}
	fields := 3 // entries, last ID
	if kind >= 19 {
		fields += 5 // first ID, last removed ID, entries added
	}
	if err := s.lengths(fields); err != nil {
		return err
	}
	return s.times(func() error { return s.group(kind) })
}

// group skips a consumer group with its pending entries and its consumers.
func (s *rdbScan) group(kind byte) error {
	fields := 2 // last ID
	if kind >= 19 {
		fields++ // entries read
	}
	err := errors.Join(s.strings(1), s.lengths(fields))
	if err != nil {
		return err
	}
	pending := func() error { return errors.Join(s.skip(16+8), s.lengths(1)) }
	if err := s.times(pending); err != nil {
		return err
	}
	times := int64(8) // when it was last seen
	if kind >= 21 {
		times += 8 // when it was last active
	}
	return s.times(func() error {
		if err := errors.Join(s.strings(1), s.skip(times)); err != nil {
			return err
		}
		return s.times(func() error { return s.skip(16) })
	})
}

// module skips the data of a module (rdb.h, RDB_MODULE_OPCODE_…).
func (s *rdbScan) module() error {
	for {
		code, err := s.length()
		if err != nil {
			return err
		}
		switch code {
		case 0:
			return nil
		case 1, 2:
			err = s.lengths(1)
		case 3:
			err = s.skip(4)
		case 4:
			err = s.skip(8)
		case 5:
			err = s.strings(1)
		default:
			err = fmt.Errorf("a module's value has a part of the unknown kind %d", code)
		}
		if err != nil {
			return err
		}
	}
}

// times reads a count, and calls do that many times.
func (s *rdbScan) times(do func() error) error {
	n, err := s.length()
	for ; err == nil && n > 0; n-- {
		err = do()
	}
	return err
}

func (s *rdbScan) lengths(n int) error {
	for range n {
		if _, err := s.length(); err != nil {
			return err
		}
	}
	return nil
}

func (s *rdbScan) strings(n int) error {
	for range n {
		length, _, err := s.stringLength()
		if err == nil {
			err = s.skip(length)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// longText is the largest size of a text about the dump that text returns.
const longText = 1 << 10

// text reads a string with information about the dump. It returns "" for one that is
// compressed or long: the texts that matter here are neither.
func (s *rdbScan) text() (string, error) {
	length, encoding, err := s.stringLength()
	if err != nil {
		return "", err
	}
	if encoding == compressed || length > longText {
		return "", s.skip(length)
	}
	b := make([]byte, length)
	if _, err := io.ReadFull(s.in, b); err != nil {
		return "", err
	}
	switch encoding {
	case 0:
		return strconv.Itoa(int(int8(b[0]))), nil
	case 1:
		return strconv.Itoa(int(int16(binary.LittleEndian.Uint16(b)))), nil
	case 2:
		return strconv.Itoa(int(int32(binary.LittleEndian.Uint32(b)))), nil
	}
	return string(b), nil
}

// Encodings of a string (rdb.h, RDB_ENC_…). Those below compressed are numbers.
const (
	compressed = 3
	plainText  = -1
)

// stringLength reads how many bytes of a string follow, and their encoding.
func (s *rdbScan) stringLength() (length int64, encoding int, err error) {
	n, special, err := s.rawLength()
	if err != nil || !special {
		return int64(n), plainText, err
	}
	switch n {
	case 0, 1, 2: // a number of 1, 2 or 4 bytes
		return 1 << n, int(n), nil
	case compressed:
		packed, err := s.length()
		if err != nil {
			return 0, 0, err
		}
		return int64(packed), compressed, s.lengths(1)
	}
	return 0, 0, fmt.Errorf("a string has the unknown encoding %d", n)
}

// length reads a number that is encoded as a length.
func (s *rdbScan) length() (uint64, error) {
	n, special, err := s.rawLength()
	if err == nil && special {
		err = errors.New("a string stands where a number has to be")
	}
	return n, err
}

// rawLength does what rdbLoadLenByRef does: the two highest bits of the first byte tell
// the size of the number. If special is true, the number is the encoding of a string.
func (s *rdbScan) rawLength() (n uint64, special bool, err error) {
	first, err := s.in.ReadByte()
	if err != nil {
		return 0, false, err
	}
	low := uint64(first & 0x3f)
	switch {
	case first>>6 == 0:
		return low, false, nil
	case first>>6 == 1:
		second, err := s.in.ReadByte()
		return low<<8 | uint64(second), false, err
	case first>>6 == 3:
		return low, true, nil
	}
	var b [8]byte
	switch first {
	case 0x80:
		_, err = io.ReadFull(s.in, b[4:])
	case 0x81:
		_, err = io.ReadFull(s.in, b[:])
	default:
		err = fmt.Errorf("a length begins with the unknown byte %#x", first)
	}
	return binary.BigEndian.Uint64(b[:]), false, err
}

// skip skips n bytes.
func (s *rdbScan) skip(n int64) error {
	if n < 0 {
		return errors.New("a length is impossible")
	}
	for n > 0 {
		step := min(n, 1<<30)
		if _, err := s.in.Discard(int(step)); err != nil {
			return err
		}
		n -= step
	}
	return nil
}

// rdbChecksum reads a dump and computes its checksum. The last eight bytes of a dump are
// the CRC-64 of those before (crc64.c, "Jones"), or 0 if the server makes none.
type rdbChecksum struct {
	from io.Reader
	sum  uint64
	tail []byte // the last eight bytes so far, which may be the checksum
	err  error  // the error of from, other than io.EOF
}

// jones is the table for the polynomial of Redis, 0xad93d23594c935a9, reflected as Go needs it.
var jones = crc64.MakeTable(0x95ac9329ac4bc9b5)

func (c *rdbChecksum) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.add(p[:n])
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

func (c *rdbChecksum) add(p []byte) {
	if keep := 8; len(p) < keep {
		c.tail = append(c.tail, p...)
		if over := len(c.tail) - keep; over > 0 {
			c.update(c.tail[:over])
			c.tail = append(c.tail[:0], c.tail[over:]...)
		}
		return
	}
	c.update(c.tail)
	c.update(p[:len(p)-8])
	c.tail = append(c.tail[:0], p[len(p)-8:]...)
}

// update adds bytes to the checksum. Go's function inverts the sum before and after, and
// that of Redis does not.
func (c *rdbChecksum) update(p []byte) { c.sum = ^crc64.Update(^c.sum, jones, p) }

func (c *rdbChecksum) right() bool {
	if len(c.tail) < 8 {
		return false
	}
	want := binary.LittleEndian.Uint64(c.tail)
	return want == 0 || want == c.sum
}
