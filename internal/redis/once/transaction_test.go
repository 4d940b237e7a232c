package once

import (
	"strings"
	"testing"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/redistest"
)

func TestRedisKnowsTheCommandsThatAScriptMayCarryOut(t *testing.T) {
	node := redistest.Start(t, 0, 0).Nodes[0]
	l := config.Config{Username: redistest.Username, Password: redistest.Password}.WithDefaults().ConnTo(node.Addr, conn.Probing)
	defer l.Stop()
	answer, err := l.Do(t.Context(), l.B().Arbitrary("COMMAND").Build()).ToArray()
	if err != nil {
		t.Fatal(err)
	}
	table := command.NewTable(node.Addr, answer)

	// Those for fields of hashes that expire came with Redis 7.4 and 8.0; Valkey has them since 9.0.
	newer := map[string]bool{}
	for _, name := range strings.Fields("hexpire hpexpire hexpireat hpexpireat hpersist httl hpttl hexpiretime hpexpiretime hgetdel hgetex hsetex") {
		newer[name] = true
	}
	for name := range carriableNames {
		cmd := command.Command(strings.Split(name, "|"))
		if spec := table.Lookup(cmd); (spec == nil || spec.Name != name) && !newer[name] {
			t.Errorf("%s: Redis knows no such command", name)
		}
	}
}
