package plan

import (
	"net"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/stack"
)

func TestANodesAddressReachesItsProgramByName(t *testing.T) {
	s, _, err := stack.Parse("shop.yaml", []byte(`
apps:
  mine:
    command: [./mine, "$HOST:${PORT}", $HOSTNAME, $$PORT, $HOLDFAST_NODE, $REDIS_URL]
    env:
      BIND: http://$HOST:$PORT
      QUEUE: ${REDIS_URL}
      PRICE: 5$$
    nodes: 1
`))
	if err != nil {
		t.Fatal(err)
	}
	processes := mustMake(t, s, machine(s, "/var/lib/holdfast", Placeholders(s))).Hosts[0].Processes
	p := processes[slices.IndexFunc(processes, func(p Process) bool { return p.Node == "mine-1" })]
	host, port, _ := net.SplitHostPort(p.Address)
	if want := []string{host + ":" + port, "$HOSTNAME", "$PORT", "mine-1", "$REDIS_URL"}; !slices.Equal(p.Args, want) {
		t.Errorf("arguments %q, want %q", p.Args, want)
	}
	has := func(name string) string {
		for _, e := range p.Env {
			if v, ok := strings.CutPrefix(e, name+"="); ok {
				return v
			}
		}
		return ""
	}
	if has("BIND") != "http://"+host+":"+port || has("QUEUE") != has("REDIS_URL") || has("REDIS_URL") == "" || has("PRICE") != "5$" {
		t.Errorf("env %q", p.Env)
	}
}
