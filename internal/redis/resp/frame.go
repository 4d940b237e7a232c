package resp

import (
	"bufio"
	"errors"
	"io"
	"strconv"
)

// Frame is one message of RESP3 from the server (manual, "Redis serialization protocol
// specification").
type Frame struct {
	Kind  byte // the protocol's: '+', '-', ':', '$', '*', '>', …
	Null  bool
	Text  string // of strings, errors, numbers
	Items []Frame
}

// ErrProtocol: the server sent what is not in the protocol, or what nobody asked for.
var ErrProtocol = errors.New("the server does not speak Redis' protocol")

// maxFrame bounds the length of a string, as Redis does (proto-max-bulk-len), and that of an
// array, which is far shorter here.
const maxFrame = 512 << 20

// ReadFrame reads one message. It waits until the message is there.
func ReadFrame(r *bufio.Reader) (Frame, error) { return readFrameIn(r, 0) }

func readFrameIn(r *bufio.Reader, depth int) (Frame, error) {
	line, err := readLine(r)
	if err != nil {
		return Frame{}, err
	}
	if len(line) == 0 || depth > 16 {
		return Frame{}, ErrProtocol
	}
	f := Frame{Kind: line[0]}
	line = line[1:]
	switch f.Kind {
	case '$', '=', '!':
		n, err := length(line)
		if err != nil {
			return Frame{}, err
		}
		if n < 0 {
			f.Null = true
			return f, nil
		}
		data := make([]byte, n+2)
		if _, err := io.ReadFull(r, data); err != nil {
			return Frame{}, err
		}
		f.Text = string(data[:n])
		if f.Kind == '!' {
			f.Kind = '-'
		}
	case '*', '>', '~', '%', '|':
		n, err := length(line)
		if err != nil {
			return Frame{}, err
		}
		if n < 0 {
			f.Null = true
			return f, nil
		}
		if f.Kind == '%' || f.Kind == '|' {
			n *= 2
		}
		f.Items = make([]Frame, 0, min(n, 1024))
		for range n {
			item, err := readFrameIn(r, depth+1)
			if err != nil {
				return Frame{}, err
			}
			f.Items = append(f.Items, item)
		}
	case '_':
		f.Null = true
	case '+', '-', ':', ',', '#', '(':
		f.Text = string(line)
	default:
		return Frame{}, ErrProtocol
	}
	return f, nil
}

// readLine returns one line without its end. A line of MONITOR is as long as a command.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		whole := append([]byte(nil), line...)
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = r.ReadSlice('\n')
			whole = append(whole, line...)
			if len(whole) > maxFrame {
				return nil, ErrProtocol
			}
		}
		line = whole
	}
	if err != nil {
		return nil, err
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, ErrProtocol
	}
	return line[:len(line)-2], nil
}

func length(text []byte) (int, error) {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < -1 || n > maxFrame {
		return 0, ErrProtocol
	}
	return n, nil
}
