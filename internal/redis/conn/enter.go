package conn

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
)

// DialProcess makes a connection to an address, ready for commands. It leads to that process of
// Redis, or there is an error.
func (o Options) DialProcess(ctx context.Context, process, addr string) (net.Conn, error) {
	conn, err := o.Connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(dialTimeout))
	hang := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	found, err := o.greet(conn)
	if err == nil && found != process {
		err = errors.New("this is not the process that is written to")
	}
	if !hang() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}

// greet makes a connection to Redis ready for commands, and returns which process is at its
// other end.
func (o Options) greet(conn net.Conn) (process string, err error) {
	var b []byte
	asked := 0
	ask := func(words ...string) {
		b = resp.AppendCommand(b, words)
		asked++
	}
	switch {
	case o.Username != "":
		ask("AUTH", o.Username, o.Password)
	case o.Password != "":
		ask("AUTH", o.Password)
	}
	if o.DB != 0 {
		ask("SELECT", strconv.Itoa(o.DB))
	}
	if o.Name != "" {
		ask("CLIENT", "SETNAME", o.Name)
	}
	ask("INFO", "server")
	if _, err := conn.Write(b); err != nil {
		return "", err
	}
	in, n := make([]byte, 16<<10), 0
	for {
		var k resp.Scanner
		whole, err := k.Whole(in[:n])
		if err == nil && !whole && n == len(in) {
			err = resp.ErrProtocol
		}
		if err != nil {
			return "", err
		}
		if !whole {
			more, err := conn.Read(in[n:])
			if err != nil {
				return "", err
			}
			n += more
			continue
		}
		var reply resp.Value
		reply.Read(string(in[:k.At]))
		if reply.Kind == resp.Failure {
			return "", outcome.RedisError(reply.Text)
		}
		if asked--; asked == 0 {
			return ProcessOf(reply.Text), nil
		}
		n = copy(in, in[k.At:n])
	}
}

// ProcessOf returns which process a reply to INFO is of (manual, INFO: run_id); empty if it
// does not tell.
func ProcessOf(info string) string {
	_, after, _ := strings.Cut(info, "\r\nrun_id:")
	id, _, _ := strings.Cut(after, "\r\n")
	return id
}
