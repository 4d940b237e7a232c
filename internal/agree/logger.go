package agree

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// repeatAfter is how long the same warning of raft is not logged again: raft logs
// one for each heartbeat that fails.
const repeatAfter = time.Minute

// newLogger returns a logger for raft that passes warnings to the operator's log.
// After the context has ended it drops them: failures are expected then.
func newLogger(end context.Context, to *slog.Logger) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: "raft", Level: hclog.Warn, DisableTime: true,
		Output: &logLines{end: end, to: to, said: map[string]time.Time{}},
	})
}

// logLines receives lines such as "[WARN]  raft: what happened: key=value".
type logLines struct {
	end  context.Context
	to   *slog.Logger
	mu   sync.Mutex
	said map[string]time.Time
}

func (l *logLines) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	_, text, _ = strings.Cut(text, "raft: ")
	what := strings.Join(strings.SplitN(text, "=", 3)[:min(2, strings.Count(text, "=")+1)], "=") // up to the first value, which is the peer

	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if last, ok := l.said[what]; text == "" || l.end.Err() != nil || ok && now.Sub(last) < repeatAfter {
		return len(line), nil
	}
	if len(l.said) > 100 {
		clear(l.said)
	}
	l.said[what] = now
	l.to.Warn("agreement of the hosts: " + text)
	return len(line), nil
}
