package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// answer is an HTTP response.
type answer struct {
	status  int
	body    []byte
	headers []string // "name: value", the name in lower case, in order
	closes  bool     // the connection ends with it
}

// readAnswer reads a response (RFC 9112, section 6.3): a body of a given length, in chunks, or up
// to the end of the connection. It uses the memory of body. It stores the headers only if body is
// nil.
func readAnswer(r *bufio.Reader, body []byte) (answer, error) {
	a := answer{body: body[:0]}
	line, err := r.ReadSlice('\n')
	if err != nil {
		return a, fmt.Errorf("read the status: %w", err)
	}

	if len(line) < 13 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return a, fmt.Errorf("not HTTP: %q", line)
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return a, fmt.Errorf("not a status: %q", line)
	}
	a.closes = line[7] == '0'

	length, chunked := -1, false
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return a, fmt.Errorf("read a header: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch len(name) {
		case len("content-length"):
			if bytes.EqualFold(name, []byte("content-length")) {
				if length, err = strconv.Atoi(string(value)); err != nil {
					return a, fmt.Errorf("a length that is none: %q", line)
				}
			}
		case len("transfer-encoding"):
			chunked = chunked || bytes.EqualFold(name, []byte("transfer-encoding")) && bytes.EqualFold(value, []byte("chunked"))
		case len("connection"):
			if bytes.EqualFold(name, []byte("connection")) {
				a.closes = bytes.EqualFold(value, []byte("close"))
			}
		}
		if body == nil {
			a.headers = append(a.headers, strings.ToLower(string(name))+": "+string(value))
		}
	}

	switch {
	case chunked:
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return a, fmt.Errorf("read a chunk's size: %w", err)
			}
			size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
			if err != nil {
				return a, fmt.Errorf("a chunk's size that is none: %q", line)
			}
			if a.body, err = readN(r, a.body, int(size)+2); err != nil {
				return a, err
			}
			a.body = a.body[:len(a.body)-2]
			if size == 0 {
				return a, nil
			}
		}
	case length >= 0:
		a.body, err = readN(r, a.body, length)
		return a, err
	default:
		rest, err := io.ReadAll(r)
		a.body, a.closes = append(a.body, rest...), true
		return a, err
	}
}

// readN reads n bytes and appends them.
func readN(r io.Reader, body []byte, n int) ([]byte, error) {
	from := len(body)
	if cap(body) < from+n {
		body = append(body, make([]byte, n)...)
	} else {
		body = body[:from+n]
	}
	if _, err := io.ReadFull(r, body[from:]); err != nil {
		return body[:from], fmt.Errorf("read the body: %w", err)
	}
	return body, nil
}

// checkBody returns an error if this is not the expected answer.
func (a answer) checkBody(want string) error {
	if a.status != 200 || string(a.body) != want {
		return fmt.Errorf("answered %d %.200q, want 200 %.200q", a.status, a.body, want)
	}
	return nil
}

// send sends one request on a new connection.
func send(address string, request []byte) (answer, error) {
	conn, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return answer{}, err
	}
	if _, err := conn.Write(request); err != nil {
		return answer{}, err
	}
	return readAnswer(bufio.NewReader(conn), nil)
}

// checkHealthy returns an error if the path is answered with a server error (5xx), or not at all.
// Any other status counts as healthy, since an application may have no such path.
func checkHealthy(address, path string) error {
	a, err := send(address, http("GET", path, ""))
	if err == nil && a.status >= 500 {
		err = errors.New("answered " + strconv.Itoa(a.status) + " " + string(a.body))
	}
	return err
}
