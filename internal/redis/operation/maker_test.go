package operation

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/redistest"
)

// A pipeline that reads one value again and again is not brief, and one of different values is.
func TestAPipelineThatReadsOneValueAgainAndAgainIsNotBrief(t *testing.T) {
	node := redistest.Start(t, 0, 0).Nodes[0]
	cfg := config.Config{Address: node.Addr, Username: redistest.Username, Password: redistest.Password}.WithDefaults()
	monitor := discovery.New(cfg.MonitorConfig())
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { monitor.Run(ctx) })
	defer running.Wait()
	defer cancel()
	m := NewMaker(cfg, monitor, false)
	if _, err := m.Spec(ctx, command.Command{"GET", "a"}); err != nil {
		t.Fatal(err)
	}

	var different, fields []command.Command
	for i := range 10000 {
		different = append(different, command.Command{"GET", "key:" + strconv.Itoa(i)})
		fields = append(fields, command.Command{"HGET", "hash", strconv.Itoa(i)})
	}
	same := func(cmd ...string) (cmds []command.Command) {
		for range 20 {
			cmds = append(cmds, cmd, command.Command{"SET", "x", "1"})
		}
		return cmds
	}
	for what, c := range map[string]struct {
		cmds []command.Command
		want bool
	}{
		"different keys": {different, false}, "different fields": {fields, false}, "writes of one key": {same("INCR", "n"), false},
		"one key": {same("GET", "string"), true}, "one key of several": {same("MGET", "string", "none"), true}, "one field": {same("HGET", "hash", "1"), true},
	} {
		if got := m.readsAgain(c.cmds); got != c.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}
