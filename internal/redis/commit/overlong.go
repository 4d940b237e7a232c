package commit

import (
	"context"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/turns"
)

// While a user's script runs, Redis serves no other client. After
// busy-reply-threshold, SCRIPT KILL ends the script unless it has written (manual,
// SCRIPT KILL). The node that sent the script sends SCRIPT KILL before the Sentinels
// consider the master down.

// scriptAgain is how often SCRIPT KILL is sent after ScriptPatience. Redis reads it when the
// script has passed busy-reply-threshold, which may be later.
const scriptAgain = 50 * time.Millisecond

// endOverlong sends SCRIPT KILL to the master when its script has run too long, until
// stop is called. It uses a connection of its own: on the others SCRIPT KILL would wait
// behind the script.
func (s *Session) endOverlong() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for wait := turns.ScriptPatience; clock.Sleep(ctx, wait); wait = scriptAgain {
			killScript(ctx, s.w.cfg, s.Master)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// killScript asks a server once to end a script or a function. The reply does not
// matter: if no script runs, or if it has written, nothing happens.
func killScript(ctx context.Context, cfg config.Config, addr string) {
	conn, err := conn.DialRaw(ctx, cfg.Options(), addr)
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, conn.Close)()
	for _, cmd := range [][]string{{"SCRIPT", "KILL"}, {"FUNCTION", "KILL"}} {
		if conn.Send(cmd) != nil {
			return
		}
		if _, err := conn.Read(); err != nil {
			return
		}
	}
}
