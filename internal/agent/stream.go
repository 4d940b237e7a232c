package agent

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Dial implements machine.Network.
func (r *Remote) Dial(ctx context.Context, network, at string) (conn net.Conn, err error) {
	req, err := r.request(ctx, "dial", address{network, at})
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", streamName)

	stream, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = stream.Close()
		}
	}()

	// A deadline in the past interrupts reads and writes when the context ends.
	stop := context.AfterFunc(ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })

	if err := req.Write(stream); err != nil {
		return nil, r.unanswered(ctx, err)
	}
	said := bufio.NewReader(stream)
	resp, err := http.ReadResponse(said, req)
	if err != nil {
		return nil, r.unanswered(ctx, err)
	}

	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		if _, err := readReply[nothing](ctx, r, resp); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s answers %s to a connection", r.host, resp.Status)
	}

	if !stop() {
		return nil, ctx.Err() // the context ended at the last moment
	}
	return &joined{stream, said}, nil
}

// joined is a connection to a node of another host.
type joined struct {
	net.Conn
	said *bufio.Reader // it may have read more than the header
}

func (j *joined) Read(p []byte) (int, error) { return j.said.Read(p) }

// CloseWrite closes the direction to the node: Close of a yamux stream closes only the sending
// side.
func (j *joined) CloseWrite() error { return j.Conn.Close() }

// Close closes the connection. The deadline also interrupts reads that wait for the node.
func (j *joined) Close() error {
	_ = j.SetDeadline(time.Unix(1, 0))
	return j.Conn.Close()
}
