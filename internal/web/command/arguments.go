package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"

	"holdfast/internal/redis"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/response"
	"holdfast/internal/web/urlquery"
)

// Arguments collects the arguments of commands as they are read from a request. The bytes of all of
// them stand one after the other, so that one copy makes strings of them.
type Arguments struct {
	bytes []byte
	ends  []int // where each argument ends in bytes
	args  []int // for each command: the number of arguments up to its end

	source  []byte // the body that is being read
	buffer  bytes.Buffer
	decoder *jsontext.Decoder

	// options are here to keep them off the stack: an idle connection keeps the stack that a request
	// needed.
	options httpfast.Options
}

// argumentsPool keeps the memory of answered requests, unless it grew large.
var argumentsPool = sync.Pool{New: func() any { return &Arguments{} }}

const keepArguments = 64 << 10 // bytes

func acquireArguments() *Arguments { return argumentsPool.Get().(*Arguments) }

func releaseArguments(a *Arguments) {
	if a.Large() {
		return
	}
	a.Reset()
	argumentsPool.Put(a)
}

// Large reports whether the arguments took so much memory that it is not kept.
func (a *Arguments) Large() bool { return cap(a.bytes)+8*cap(a.ends) > keepArguments }

// Reset empties it for another request.
func (a *Arguments) Reset() {
	a.bytes, a.ends, a.args = a.bytes[:0], a.ends[:0], a.args[:0]
	a.source, a.buffer, a.options = nil, bytes.Buffer{}, httpfast.Options{} // the old ones are the request's memory
}

func (a *Arguments) endArgument() { a.ends = append(a.ends, len(a.bytes)) }
func (a *Arguments) endCommand()  { a.args = append(a.args, len(a.ends)) }

// add adds an argument as it is.
func (a *Arguments) add(arg []byte) {
	a.bytes = append(a.bytes, arg...)
	a.endArgument()
}

// shortCommand is one command with few arguments, in one piece of memory.
type shortCommand struct {
	commands [1]redis.Command
	args     [4]string
}

// Commands returns all commands, in memory of their own.
func (a *Arguments) Commands() []redis.Command {
	text := string(a.bytes)
	if a.few() {
		s := new(shortCommand)
		return a.parts(text, s.commands[:0], s.args[:0])
	}
	return a.parts(text, make([]redis.Command, 0, len(a.args)), make([]string, 0, len(a.ends)))
}

// few reports whether there is one command with few arguments.
func (a *Arguments) few() bool { return len(a.args) == 1 && len(a.ends) <= len(shortCommand{}.args) }

// parts appends the arguments, whose bytes are text, to args, and the commands that they form to
// commands, which it returns.
func (a *Arguments) parts(text string, commands []redis.Command, args []string) []redis.Command {
	begin := 0
	for _, end := range a.ends {
		args = append(args, text[begin:end])
		begin = end
	}
	begin = 0
	for _, end := range a.args {
		commands = append(commands, args[begin:end:end])
		begin = end
	}
	return commands
}

// BorrowedCommand is memory of a pending request for a short command. The next request in its place uses it again.
type BorrowedCommand struct {
	text []byte
	shortCommand
}

// maxLent bounds the bytes of a command in a BorrowedCommand.
const maxLent = 1 << 10

// Borrow returns the commands in m, valid until m is used again. It returns nil when m has no room.
func (a *Arguments) Borrow(m *BorrowedCommand) []redis.Command {
	if !a.few() || len(a.bytes) > maxLent {
		return nil
	}
	m.text = append(m.text[:0], a.bytes...)
	return a.parts(unsafe.String(unsafe.SliceData(m.text), len(m.text)), m.commands[:0], m.args[:0])
}

// Kept returns the command in memory of its own.
func (m *BorrowedCommand) Kept() []redis.Command {
	s := new(shortCommand)
	text, args := string(m.text), s.args[:0]
	for _, arg := range m.commands[0] {
		args = append(args, text[:len(arg)])
		text = text[len(arg):]
	}
	return append(s.commands[:0], args)
}

// Errors of bodies that are JSON but not commands.
var (
	errNull         = response.BadRequest("ERR null args are not supported")
	errNested       = response.BadRequest("ERR an argument is a string, a number or a boolean; write an array or an object as a string of JSON")
	errNoCommand    = response.BadRequest("ERR empty command: the first element of the array has to be a command's name")
	errNotCommand   = response.BadRequest(`ERR the body has to be a JSON array of a command and its arguments, such as ["SET","key","value"]`)
	errNotCommands  = response.BadRequest(`ERR the body has to be a JSON array of commands, each an array, such as [["SET","key","value"],["GET","key"]]`)
	errNoCommands   = response.BadRequest("ERR there is no command in the array")
	errSeveral      = response.BadRequest("ERR there are several commands in the body; send them to /pipeline or /multi-exec")
	errBodyEncoding = response.BadRequest("ERR the body is not valid UTF-8, as JSON has to be; send a binary value as the body of POST /set/KEY")
)

// begin begins to read a body.
func (a *Arguments) begin(body []byte) error {
	if !utf8.Valid(body) {
		return errBodyEncoding
	}
	a.source, a.buffer = body, *bytes.NewBuffer(body)
	if a.decoder == nil {
		a.decoder = jsontext.NewDecoder(&a.buffer)
	} else {
		a.decoder.Reset(&a.buffer)
	}
	return nil
}

// ReadBody reads a body that is one command.
func (a *Arguments) ReadBody(body []byte) error {
	if err := a.begin(body); err != nil {
		return err
	}
	if err := a.open(errNotCommand); err != nil {
		return err
	}
	if a.decoder.PeekKind() == '[' && len(a.ends) == 0 {
		return errSeveral
	}
	if err := a.rest(); err != nil {
		return err
	}
	return a.end()
}

// readPipeline reads a body that is an array of at most most commands.
func (a *Arguments) readPipeline(body []byte, most int) error {
	if err := a.begin(body); err != nil {
		return err
	}
	if err := a.open(errNotCommands); err != nil {
		return err
	}
	for a.decoder.PeekKind() != ']' {
		if len(a.args) == most {
			return response.NewError(413, fmt.Sprintf("ERR there are too many commands in the body; at most %d are possible", most))
		}
		if err := a.open(errNotCommands); err != nil {
			return err
		}
		if err := a.rest(); err != nil {
			return err
		}
	}
	if _, err := a.decoder.ReadToken(); err != nil {
		return a.syntaxError(err)
	}
	if len(a.args) == 0 {
		return errNoCommands
	}
	return a.end()
}

// open reads the beginning of an array. Its error is other when something else stands there.
func (a *Arguments) open(other error) error {
	token, err := a.decoder.ReadToken()
	if err != nil {
		return a.syntaxError(err)
	}
	if token.Kind() != '[' {
		return other
	}
	return nil
}

// rest reads the arguments up to the end of their array.
func (a *Arguments) rest() error {
	first := len(a.ends)
	for {
		switch a.decoder.PeekKind() {
		case '[', '{':
			return errNested
		case 'n':
			if _, err := a.decoder.ReadToken(); err != nil { // such as nul
				return a.syntaxError(err)
			}
			return errNull
		case ']':
			if _, err := a.decoder.ReadToken(); err != nil {
				return a.syntaxError(err)
			}
			if len(a.ends) == first || a.ends[first] == a.startOf(first) {
				return errNoCommand
			}
			a.endCommand()
			return nil
		}
		value, err := a.decoder.ReadValue()
		if err != nil {
			return a.syntaxError(err)
		}
		if value[0] == '"' {
			a.bytes = appendUnquoted(a.bytes, value)
		} else { // a number keeps its digits as they are
			a.bytes = append(a.bytes, value...)
		}
		a.endArgument()
	}
}

func (a *Arguments) startOf(argument int) int {
	if argument == 0 {
		return 0
	}
	return a.ends[argument-1]
}

// appendUnquoted appends what a valid JSON string stands for.
func appendUnquoted(dst, value []byte) []byte {
	if inner := value[1 : len(value)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return append(dst, inner...)
	}
	dst, _ = jsontext.AppendUnquote(dst, value) // the decoder has checked it
	return dst
}

// end fails when anything follows.
func (a *Arguments) end() error {
	if _, err := a.decoder.ReadToken(); err != io.EOF {
		if err == nil {
			return response.BadRequest(fmt.Sprintf("ERR the body is not valid JSON: something follows the array, before byte %d", a.decoder.InputOffset()))
		}
		return a.syntaxError(err)
	}
	return nil
}

// syntaxError says what is wrong with a body, and where.
func (a *Arguments) syntaxError(err error) error {
	var s *jsontext.SyntacticError
	switch {
	case err == io.EOF:
		return response.BadRequest("ERR the body is empty; it has to be JSON")
	case errors.As(err, &s):
		if half := surrogate(a.source, s.ByteOffset); half != "" {
			return response.BadRequest(fmt.Sprintf("ERR the body has half a surrogate pair, %s, at byte %d: it is no character; send a binary value as the body of POST /set/KEY", half, s.ByteOffset))
		}
		return response.BadRequest(fmt.Sprintf("ERR the body is not valid JSON: %v at byte %d", s.Err, s.ByteOffset))
	}
	return response.BadRequest("ERR the body is not valid JSON: " + err.Error())
}

// surrogate returns the escape of a surrogate (\uD800 to \uDFFF) that stands at a place of a body,
// or nothing when there is none. JavaScript makes half a pair when it cuts a string inside a
// character. Replaced by U+FFFD, several keys would become one.
func surrogate(body []byte, at int64) string {
	const length = len(`\uD800`)
	if at < 0 || at > int64(len(body)-length) {
		return ""
	}
	escape := string(body[at : at+int64(length)])
	if n, err := strconv.ParseUint(strings.TrimPrefix(escape, `\u`), 16, 16); err == nil && utf16.IsSurrogate(rune(n)) {
		return escape
	}
	return ""
}

// queryParameter adds a parameter of the query as an argument. It returns its length, or -1 when it is
// not there.
func (a *Arguments) queryParameter(query []byte, name string) (length int, err error) {
	raw, ok, err := urlquery.Raw(query, name)
	if !ok || err != nil {
		return -1, err
	}
	begin := len(a.bytes)
	if a.bytes, err = urlquery.AppendUnescaped(a.bytes, raw, true); err != nil {
		return -1, err
	}
	a.endArgument()
	return len(a.bytes) - begin, nil
}
