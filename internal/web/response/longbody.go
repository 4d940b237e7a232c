package response

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/web/httpfast"
)

// A long response is made in pieces while it is written. Escaped for JSON it may be six times as
// long as what Redis sent, and a client may take its time to read it.

// pieceSize is about how much of a response is made at once, in bytes.
const pieceSize = 32 << 10

// leastRate is how fast a client has to read a long response, in bytes a second, beyond
// httpfast.WriteTimeout: while it reads, others may find no room for their long responses.
const leastRate = 1 << 20

// SetDeadline sets the time that a client has to read a response of that length.
func SetDeadline(conn net.Conn, length int) {
	_ = conn.SetWriteDeadline(time.Now().Add(httpfast.WriteTimeout + time.Duration(length)*time.Second/leastRate))
}

// LongBody is the body of a long response: results of commands, or other text.
type LongBody struct {
	Results []redis.Result
	Form    Form
	List    bool // results stand in a JSON array
	Raw     bool // the text of the only result, as it is
	// Texts, when it is not nil, is the body instead: keys as a JSON array, between before and
	// behind.
	Texts          []string
	Before, Behind string

	conn net.Conn
	// size is the body's length in bytes, set by SendLong.
	size int
	// request is the one that the results belong to; Close releases it.
	request redis.Request
}

// ClientConn is a connection to a client. The HTTP server's library also makes requests whose response
// is written into memory; the connection of those has no deadlines, and is not a ClientConn.
type ClientConn interface {
	net.Conn
	IsClientConn()
}

// SendLong sends a long response. The results of r move to the body, which releases them.
func SendLong(ctx *fasthttp.RequestCtx, r *redis.Request, kind string, body *LongBody) {
	if c, ok := ctx.Conn().(ClientConn); ok {
		body.conn = c
	}
	body.request = *r
	*r = redis.Request{Commands: r.Commands}
	ctx.SetContentType(kind)
	body.size = body.Length()
	ctx.SetBodyStream(body, body.size)
}

// Close implements io.Closer: the server has written the body, or never will.
func (b *LongBody) Close() error {
	b.request.Release()
	b.Results, b.Texts = nil, nil
	return nil
}

var errOnlyWritten = errors.New("a long answer is only written")

// Read implements io.Reader. The server never calls it, because it prefers WriteTo.
func (b *LongBody) Read([]byte) (int, error) { return 0, errOnlyWritten }

// WriteTo implements io.WriterTo.
func (b *LongBody) WriteTo(w io.Writer) (int64, error) {
	if b.conn != nil {
		SetDeadline(b.conn, b.size)
	}
	p := pieces{w: w, out: make([]byte, 0, 2*pieceSize)}
	switch {
	case b.Raw:
		p.text(b.Results[0].Reply.Text())
	case b.Texts != nil:
		p.text(b.Before)
		for i, text := range b.Texts {
			if i > 0 {
				p.out = append(p.out, ',')
			}
			p.string(text, false)
		}
		p.text(b.Behind)
	default:
		b.writeResults(&p)
	}
	p.flush(0)
	return p.n, p.err
}

func (b *LongBody) writeResults(p *pieces) {
	if b.List {
		p.out = append(p.out, '[')
	}
	for i := range b.Results {
		if i > 0 && b.List {
			p.out = append(p.out, ',')
		}
		p.result(&b.Results[i], b.Form)
	}
	if b.List {
		p.out = append(p.out, ']')
	}
}

// Length returns how long the body is, in bytes.
func (b *LongBody) Length() int {
	if b.Raw {
		return len(b.Results[0].Reply.Text())
	}
	n := 0
	if b.Texts != nil {
		n = len(b.Before) + len(b.Behind) + max(0, len(b.Texts)-1)
		for _, text := range b.Texts {
			n += stringLength(text, false)
		}
		return n
	}
	if b.List {
		n = 2 + max(0, len(b.Results)-1)
	}
	for i := range b.Results {
		n += resultLength(&b.Results[i], b.Form)
	}
	return n
}

// pieces writes what was appended to out whenever that is enough.
type pieces struct {
	w   io.Writer
	out []byte
	n   int64
	err error
}

// flush writes out, if it has at least that many bytes.
func (p *pieces) flush(least int) {
	if len(p.out) < least || len(p.out) == 0 {
		return
	}
	p.write(p.out)
	p.out = p.out[:0]
	giveWay()
}

func (p *pieces) write(b []byte) {
	if p.err != nil {
		return
	}
	n, err := p.w.Write(b)
	p.n += int64(n)
	p.err = err
}

// text writes a text as it is.
func (p *pieces) text(s string) {
	if len(s) < pieceSize {
		p.out = append(p.out, s...)
		p.flush(pieceSize)
		return
	}
	p.flush(0)
	p.write(BytesOf(s)) // it is only read
}

// string writes a string of JSON.
func (p *pieces) string(s string, inBase64 bool) {
	p.out = append(p.out, '"')
	for s != "" && p.err == nil {
		part := s[:min(len(s), pieceSize/4*3)] // three bytes become four in base64
		if !inBase64 && len(part) < len(s) {
			part = part[:wholeRunes(part)]
		}
		if s = s[len(part):]; inBase64 {
			p.out = base64.StdEncoding.AppendEncode(p.out, BytesOf(part))
		} else {
			p.out = appendEscaped(p.out, part)
		}
		p.flush(pieceSize)
	}
	p.out = append(p.out, '"')
}

// wholeRunes returns how much of a text can be cut off without cutting a character.
func wholeRunes(s string) int {
	for i := len(s) - 1; i > len(s)-utf8.UTFMax && i > 0; i-- {
		if utf8.RuneStart(s[i]) {
			if !utf8.FullRuneInString(s[i:]) {
				return i
			}
			break
		}
	}
	return len(s)
}

// result writes a command's result, in the bytes of AppendResult and AppendRESP.
func (p *pieces) result(r *redis.Result, f Form) {
	switch {
	case r.Err != nil && f.RESP2:
		p.out = AppendRESP(p.out, r)
	case r.Err != nil:
		p.out = AppendResult(p.out, r, f.Base64)
	case f.RESP2:
		p.resp(&r.Reply)
	case r.Reply.Type() == redis.Text && len(r.Reply.Text()) < pieceSize:
		p.out = AppendResult(p.out, r, f.Base64)
	default:
		p.out = append(p.out, `{"result":`...)
		p.reply(&r.Reply, f.Base64)
		p.out = append(p.out, '}')
	}
	p.flush(pieceSize)
}

func (p *pieces) reply(r *redis.Reply, inBase64 bool) {
	switch r.Type() {
	case redis.Text:
		p.string(r.Text(), inBase64)
	case redis.Array:
		p.out = append(p.out, '[')
		for i := range r.Len() {
			if i > 0 {
				p.out = append(p.out, ',')
			}
			element := r.At(i)
			p.reply(&element, inBase64)
		}
		p.out = append(p.out, ']')
	default:
		p.out = appendReply(p.out, r, inBase64)
	}
	p.flush(pieceSize)
}

func (p *pieces) resp(r *redis.Reply) {
	switch {
	case r.Type() == redis.Text && len(r.Text()) >= pieceSize:
		if r.Simple() {
			p.out = append(p.out, '+')
		} else {
			p.out = appendHead(p.out, '$', int64(len(r.Text())))
		}
		p.text(r.Text())
		p.out = append(p.out, "\r\n"...)
	case r.Type() == redis.Array:
		n := r.Len()
		p.out = appendHead(p.out, '*', int64(n))
		for i := range n {
			element := r.At(i)
			p.resp(&element)
		}
	default:
		p.out = appendRESPReply(p.out, r)
	}
	p.flush(pieceSize)
}

// resultLength returns how many bytes pieces.result writes.
func resultLength(r *redis.Result, f Form) int {
	var small [256]byte
	switch {
	case r.Err != nil && f.RESP2:
		return len(AppendRESP(small[:0], r))
	case r.Err != nil:
		return len(AppendResult(small[:0], r, f.Base64))
	case f.RESP2:
		return respLength(&r.Reply)
	case r.Reply.Type() == redis.Text && len(r.Reply.Text()) < pieceSize && f.Base64 && r.Reply.Text() == "OK":
		return len(`{"result":"OK"}`)
	}
	return len(`{"result":}`) + replyLength(&r.Reply, f.Base64)
}

func replyLength(r *redis.Reply, inBase64 bool) int {
	switch r.Type() {
	case redis.Text:
		return stringLength(r.Text(), inBase64)
	case redis.Array:
		count := r.Len()
		n := 2 + max(0, count-1)
		for i := range count {
			element := r.At(i)
			n += replyLength(&element, inBase64)
		}
		return n
	}
	var small [256]byte
	return len(appendReply(small[:0], r, inBase64))
}

func respLength(r *redis.Reply) int {
	switch r.Type() {
	case redis.Text:
		n := len(r.Text())
		if r.Simple() {
			return len("+\r\n") + n
		}
		return len("$\r\n\r\n") + len(strconv.Itoa(n)) + n
	case redis.Array:
		count := r.Len()
		n := len("*\r\n") + len(strconv.Itoa(count))
		for i := range count {
			element := r.At(i)
			n += respLength(&element)
		}
		return n
	}
	var small [256]byte
	return len(appendRESPReply(small[:0], r))
}

// giveWay lets other requests of this process go on. Code that works on a long response calls it
// for each piece. A web node has few threads, often one (see cli's webNode.tune), and Go leaves a
// thread to one goroutine for 10 ms: without giveWay each step of a short request would wait for
// that long.
func giveWay() { runtime.Gosched() }

// stringLength returns the length of a text as a JSON string, in bytes.
func stringLength(s string, inBase64 bool) int {
	if inBase64 {
		return 2 + base64.StdEncoding.EncodedLen(len(s))
	}
	n := 2
	for len(s) > pieceSize {
		whole := wholeRunes(s[:pieceSize])
		n += escapedLength(s[:whole])
		s = s[whole:]
		giveWay()
	}
	return n + escapedLength(s)
}

// escapedLength returns how many bytes appendEscaped appends.
func escapedLength(s string) (n int) {
	b := BytesOf(s)
	for i := 0; i < len(b); {
		if i+8 <= len(b) && plainWord(binary.LittleEndian.Uint64(b[i:])) {
			n += 8
			i += 8
			continue
		}
		for next := min(i+8, len(b)); i < next; {
			if c := b[i]; c < utf8.RuneSelf {
				n += int(asciiLength[c])
				i++
				continue
			}
			r, width := utf8.DecodeRune(b[i:])
			i += width
			if r == utf8.RuneError && width == 1 {
				width = len("\uFFFD")
			}
			n += width
		}
	}
	return n
}

// asciiLength has the length of each ASCII character inside a JSON string.
var asciiLength = func() (lengths [utf8.RuneSelf]uint8) {
	for c := range lengths {
		lengths[c] = uint8(len(appendEscaped(nil, string(rune(c)))))
	}
	return lengths
}()
