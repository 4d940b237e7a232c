package redis

import (
	"context"
	"time"
)

// A script of a user's keeps Redis from answering anybody. After
// busy-reply-threshold Redis lets it be ended by SCRIPT KILL, unless it has
// written (manual, SCRIPT KILL): the node that sent the script sees to that,
// before Sentinels take the master for dead.

// How long a batch with a user's script may take before its end is asked for, and
// how often that is repeated. Redis reads the question when the script has passed
// busy-reply-threshold, which may be later.
const (
	scriptPatience = 100 * time.Millisecond
	scriptAgain    = 50 * time.Millisecond
)

// endOverlong asks the master to end the script that it runs, once it has run too
// long, until stop is called. It is asked on a connection of its own: on others
// the question would stand behind the script.
func (s *session) endOverlong() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for wait := scriptPatience; pause(ctx, wait); wait = scriptAgain {
			killScript(ctx, s.w.cfg, s.master)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// killScript asks a server once to end a script or a function. Its answer
// does not matter: where none runs, or where one has written, nothing happens.
func killScript(ctx context.Context, cfg Config, addr string) {
	conn, err := dialRaw(ctx, cfg, addr)
	if err != nil {
		return
	}
	defer conn.close()
	defer context.AfterFunc(ctx, conn.close)()
	for _, cmd := range [][]string{{"SCRIPT", "KILL"}, {"FUNCTION", "KILL"}} {
		if conn.send(cmd) != nil {
			return
		}
		if _, err := conn.read(); err != nil {
			return
		}
	}
}
