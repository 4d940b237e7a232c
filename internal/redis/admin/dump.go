package admin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/redis/conn"
)

// Dump is all data of a Redis node at one position of its replication stream, as it
// comes over a connection: what a new replica gets (PSYNC), in Redis' own format (RDB).
// The node forks for it and writes nothing to its disk. Read it to its end and Close it;
// it is for one goroutine.
type Dump struct {
	// ID is the replication id, and Offset the position: the data has every write
	// before it, and none after.
	ID     string
	Offset int64

	conn  net.Conn
	in    *bufio.Reader
	stop  func() bool
	ctx   context.Context
	left  int64  // bytes of the dump; -1: mark ends it
	mark  []byte // ends the dump when left is -1
	ahead []byte // read, and perhaps a part of the mark
	chunk []byte
	done  bool
}

// Patience with a node that makes a dump. It says every second that it is at it, and
// sends without a pause then.
const (
	dumpWait  = time.Minute
	dumpStall = 10 * time.Second
)

// OpenDump asks a node for a dump. The context bounds all of it. The node has to be a
// master, or a replica that is connected to its master. A master shows who copies it in
// INFO, where Sentinels look for replicas: as is the address of a replica that they know
// already, under which the copy is shown; empty: none.
//
// The connection is not that of a replica, which is sent what is written meanwhile (REPLCONF
// RDB-ONLY, Redis 6.2): it costs the node no memory beside the fork, counts for no WAIT,
// and is no replica in the answer to ROLE.
func OpenDump(ctx context.Context, way Way, address, user, password, as string) (*Dump, error) {
	conn, err := conn.Options{Dial: way.Dial, TLS: way.TLS}.Connect(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	d := &Dump{conn: conn, in: bufio.NewReaderSize(conn, 256<<10), ctx: ctx}
	d.stop = context.AfterFunc(ctx, func() { conn.Close() })
	if err := d.ask(user, password, as); err != nil {
		d.Close()
		return nil, fmt.Errorf("ask %s for its data: %w", address, d.cause(err))
	}
	return d, nil
}

func (d *Dump) ask(user, password, as string) error {
	greeting := [][]string{
		{"AUTH", user, password},
		{"REPLCONF", "rdb-only", "1"},
		{"REPLCONF", "capa", "eof"},
	}
	if host, port, err := net.SplitHostPort(as); err == nil {
		greeting = append(greeting, []string{"REPLCONF", "listening-port", port}, []string{"REPLCONF", "ip-address", host})
	}
	for _, command := range greeting {
		line, err := d.command(command...)
		if err != nil {
			return err
		}
		if line != "+OK" {
			return fmt.Errorf("%s: %s", command[0], strings.TrimPrefix(line, "-"))
		}
	}
	line, err := d.command("PSYNC", "?", "-1")
	if err != nil {
		return err
	}
	word := strings.Fields(line)
	if len(word) != 3 || word[0] != "+FULLRESYNC" {
		return fmt.Errorf("PSYNC: %s", strings.TrimPrefix(line, "-"))
	}
	d.ID = word[1]
	if d.Offset, err = strconv.ParseInt(word[2], 10, 64); err != nil {
		return fmt.Errorf("PSYNC: %s", line)
	}
	return nil
}

// command sends a command and returns the line that Redis answers.
func (d *Dump) command(words ...string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	d.conn.SetDeadline(time.Now().Add(dumpStall))
	if _, err := io.WriteString(d.conn, b.String()); err != nil {
		return "", err
	}
	return d.line(dumpStall)
}

// line reads the next line. Empty ones say that the node is at work.
func (d *Dump) line(patience time.Duration) (string, error) {
	for {
		d.conn.SetReadDeadline(time.Now().Add(patience))
		line, err := d.in.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			return line, nil
		}
	}
}

// Begin waits for the node to have forked. Read does it by itself.
func (d *Dump) Begin() error {
	if d.left != 0 || d.done {
		return nil
	}
	line, err := d.line(dumpWait)
	if err != nil {
		return d.cause(err)
	}
	const markSize = 40
	mark, marked := strings.CutPrefix(line, "$EOF:")
	size, sized := strings.CutPrefix(line, "$")
	switch n, err := strconv.ParseInt(size, 10, 64); {
	case marked && len(mark) == markSize:
		d.left, d.mark = -1, []byte(mark)
	case sized && err == nil && n > 0:
		d.left = n
	default:
		return fmt.Errorf("the node sends no data but %.80q", line)
	}
	return nil
}

// Read reads the dump. It returns io.EOF only behind its last byte.
func (d *Dump) Read(p []byte) (int, error) {
	if d.done {
		return 0, io.EOF
	}
	if err := d.Begin(); err != nil {
		return 0, err
	}
	d.conn.SetReadDeadline(time.Now().Add(dumpStall))
	if d.left > 0 {
		n, err := d.in.Read(p[:min(int64(len(p)), d.left)])
		d.left -= int64(n)
		d.done = d.left == 0
		return n, d.cause(err)
	}
	return d.readMarked(p)
}

// readMarked reads a dump that ends with a mark. The last bytes are held back until
// it is certain that they are not the mark: nothing follows it.
func (d *Dump) readMarked(p []byte) (int, error) {
	for len(d.ahead) <= len(d.mark) {
		if d.chunk == nil {
			d.chunk = make([]byte, 64<<10)
		}
		n, err := d.in.Read(d.chunk)
		d.ahead = append(d.ahead, d.chunk[:n]...)
		if bytes.Equal(d.ahead, d.mark) {
			d.done = true
			return 0, io.EOF
		}
		if bytes.HasSuffix(d.ahead, d.mark) {
			break
		}
		if err != nil {
			return 0, d.cause(err)
		}
	}
	n := copy(p, d.ahead[:len(d.ahead)-len(d.mark)])
	d.ahead = d.ahead[n:]
	if bytes.Equal(d.ahead, d.mark) {
		d.done = true
	}
	return n, nil
}

// cause is what to say of an error: what ended the context, and an end that came too
// early.
func (d *Dump) cause(err error) error {
	switch {
	case err != nil && d.ctx.Err() != nil:
		return context.Cause(d.ctx)
	case errors.Is(err, io.EOF):
		return errors.New("the connection ended in the middle of the data")
	}
	return err
}

// Close ends the connection. A node that still sends gives it up.
func (d *Dump) Close() error {
	d.stop()
	return d.conn.Close()
}

// Burden is what a Redis node has to carry: what matters before it forks.
type Burden struct {
	// Memory is what its data and buffers take, in bytes (used_memory).
	Memory int64
	// Forked is true while a child of it writes a dump or its append-only file.
	Forked bool
	// ID is its replication id: one for all nodes that follow one master.
	ID string
}

// Burden asks a Redis node for it.
func (a *Client) Burden(ctx context.Context) (Burden, error) {
	var b Burden
	for _, section := range []string{"memory", "persistence", "replication"} {
		text, err := a.info(ctx, section)
		if err != nil {
			return b, err
		}
		for line := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			switch name {
			case "used_memory":
				b.Memory, _ = strconv.ParseInt(value, 10, 64)
			case "rdb_bgsave_in_progress", "aof_rewrite_in_progress":
				b.Forked = b.Forked || value == "1"
			case "master_replid":
				b.ID = value
			}
		}
	}
	return b, nil
}
