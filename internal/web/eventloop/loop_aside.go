//go:build linux && (amd64 || arm64)

package eventloop

import (
	"net"
	"slices"
	"time"

	"holdfast/internal/web/httpfast"
)

// finishAside has a goroutine make and write the response of a pending request that has landed,
// with memory of its own. The response is so long that all connections of the loop would wait for
// it.
func (l *loop) finishAside(f *Pending) {
	f.Closing, f.Memory = l.draining, new(Memory)
	l.manager.writeAsync(f.conn, func(conn net.Conn) error {
		f.Memory.Now = time.Now()
		return l.manager.handler.FinishTo(f, conn)
	})
}

// writeAside has a goroutine write the rest of a short response, which the connection does not take
// now. When too much waits like that, it closes the connection instead.
func (l *loop) writeAside(c *loopConn, out []byte) {
	n := int64(len(out))
	if l.manager.unread.Add(n) > maxUnread {
		l.manager.unread.Add(-n)
		l.close(c)
		return
	}
	rest := slices.Clone(out)
	l.manager.writeAsync(c, func(conn net.Conn) error {
		defer l.manager.unread.Add(-n)
		_ = conn.SetWriteDeadline(time.Now().Add(httpfast.WriteTimeout))
		_, err := conn.Write(rest)
		return err
	})
}
