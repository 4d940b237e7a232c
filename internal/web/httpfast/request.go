package httpfast

import (
	"bytes"
	"encoding/binary"

	"holdfast/internal/web/routes"
)

// Request is a request that an event loop may serve: complete, alone in what was read, short, and of
// a form that no two parsers read differently. Its slices are parts of the bytes that were read,
// and valid until the next read.
type Request struct {
	Method        int // index in routes.Methods: GET, POST or PUT
	Path, Query   []byte
	Host          []byte
	Body          []byte
	Authorization []byte
	Source        []byte // fair.SourceHeader
	Options       Options
}

// Parse reads the bytes of a request. It reports false for everything that is not simple: what is
// unusual, wrong, incomplete, or followed by more. Such bytes are for the HTTP server, which has
// the answers to them. So parse refuses nothing, and what it accepts has to mean the same to the
// HTTP server; FuzzSimple compares the two.
func (q *Request) Parse(b []byte) bool {
	*q = Request{}
	switch {
	case bytes.HasPrefix(b, []byte("GET /")):
		q.Method, b = routes.Get, b[len("GET "):]
	case bytes.HasPrefix(b, []byte("POST /")):
		q.Method, b = routes.Post, b[len("POST "):]
	case bytes.HasPrefix(b, []byte("PUT /")):
		q.Method, b = routes.Put, b[len("PUT "):]
	default:
		return false
	}

	end := countPlain(b, '!')
	target := b[:end]
	if b = b[end:]; !bytes.HasPrefix(b, []byte(" HTTP/1.1\r\n")) || bytes.IndexByte(target, '#') >= 0 {
		return false
	}
	q.Path, q.Query, _ = bytes.Cut(target, []byte("?"))
	if bytes.Contains(q.Path, []byte("//")) {
		return false // the HTTP server could take it for an authority
	}

	b = b[len(" HTTP/1.1\r\n"):]
	var seen fieldSet
	length := -1
	for {
		if len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
			b = b[2:]
			break
		}
		colon := bytes.IndexByte(b, ':')
		if colon < 1 {
			return false
		}
		name := b[:colon]
		b = b[colon+1:]
		end := countPlain(b, ' ')
		if len(b) < end+2 || b[end] != '\r' || b[end+1] != '\n' {
			return false
		}
		value := bytes.Trim(b[:end], " ")
		b = b[end+2:]
		field := fieldOf(name)
		if field == strangeField || field != harmlessField && seen&field != 0 || !q.takeField(field, value, &length) {
			return false
		}
		seen |= field
	}

	if seen&hostField == 0 || (q.Method == routes.Get) != (length < 0) || len(b) != max(length, 0) {
		return false
	}
	q.Body = b
	return true
}

// fieldSet is a set of header fields, each a bit.
type fieldSet uint32

// The fields that are understood. Except for harmless ones, each may come once.
const (
	harmlessField fieldSet = 1 << iota // changes nothing about the response
	hostField
	agentField
	connectionField
	lengthField
	authorizationField
	readField
	maxLagField
	writeField
	receivedField
	attemptField
	onceField
	tokenField
	encodingField
	formatField
	sourceField

	// strangeField is a field that only the HTTP server understands, or no valid field.
	strangeField fieldSet = 0
)

// fieldOf returns the field of a name, in whatever case the name comes.
func fieldOf(name []byte) fieldSet {
	var lower [32]byte // as long as the longest name that is understood
	for i, c := range name {
		if c = inNames[c]; c == 0 {
			return strangeField
		}
		if i < len(lower) {
			lower[i] = c
		}
	}
	if len(name) > len(lower) {
		return harmlessField
	}
	switch string(lower[:len(name)]) {
	case "host":
		return hostField
	case "user-agent":
		return agentField
	case "connection":
		return connectionField
	case "content-length":
		return lengthField
	case "authorization":
		return authorizationField
	case "holdfast-read":
		return readField
	case "holdfast-max-lag":
		return maxLagField
	case "holdfast-write":
		return writeField
	case "holdfast-received":
		return receivedField
	case "holdfast-attempt":
		return attemptField
	case "idempotency-key":
		return onceField
	case "upstash-sync-token":
		return tokenField
	case "upstash-encoding":
		return encodingField
	case "upstash-response-format":
		return formatField
	case "holdfast-source":
		return sourceField
	case "transfer-encoding", "trailer", "te", "expect", "upgrade", "keep-alive", "proxy-connection", // how the message is sent
		"origin", "sec-fetch-site": // see package auth, cors.go
		return strangeField
	}
	// Neither the HTTP server nor a handler that runs commands reads any other field.
	return harmlessField
}

// inNames has the characters that a field's name may have (RFC 9110, section 5.6.2: token), in
// lower case; 0 for all others.
var inNames = func() (t [256]byte) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = byte(c), byte(c)
	}
	for _, c := range []byte("0123456789!#$%&'*+-.^_`|~") {
		t[c] = c
	}
	return t
}()

// takeField stores a field. It reports false when its value is not simple.
func (q *Request) takeField(field fieldSet, value []byte, length *int) bool {
	switch field {
	case hostField:
		q.Host = value
		return plainHost(value)
	case agentField: // browsers get more header fields: see response.SetBrowserHeaders
		return !bytes.HasPrefix(value, []byte("Mozilla/"))
	case connectionField:
		return bytes.EqualFold(value, []byte("keep-alive"))
	case lengthField:
		if len(value) == 0 || len(value) > 6 || value[0] == '0' && len(value) > 1 {
			return false
		}
		*length = 0
		for _, c := range value {
			if c < '0' || c > '9' {
				return false
			}
			*length = *length*10 + int(c-'0')
		}
	case authorizationField:
		q.Authorization = value
	case sourceField:
		q.Source = value
	default:
		q.Options.Set(field, value)
	}
	return true
}

// plainHost reports whether a host is a name or an IPv4 address, with or without a port.
func plainHost(host []byte) bool {
	name, port, ported := bytes.Cut(host, []byte(":"))
	if len(name) == 0 || ported && len(port) == 0 || len(port) > 4 && string(port) > "65535" || len(port) > 5 {
		return false
	}
	for _, c := range name {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-') {
			return false
		}
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// countPlain returns how many bytes at the beginning of b are printable ASCII or a blank, and not below
// least. It looks at eight bytes at a time, and then for the first that may not be.
func countPlain(b []byte, least byte) int {
	const (
		del   = 0x7f
		ones  = 0x0101010101010101 // 1 in each byte of a word
		highs = 0x8080808080808080 // the highest bit of each
	)
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		control := w ^ ones*del
		if (w|(w-ones*uint64(least))|(control-ones))&highs != 0 {
			break
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < least || c >= del {
			break
		}
	}
	return i
}

// HasField reports whether the header has a field of that name, which is in lower case.
func HasField(raw []byte, name string) bool {
	for line := range bytes.Lines(raw) {
		if len(line) > len(name) && line[len(name)] == ':' && string(bytes.ToLower(line[:len(name)])) == name {
			return true
		}
	}
	return false
}
