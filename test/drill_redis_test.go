package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
)

// redisAddresses returns the addresses of the redis nodes and Sentinels.
func (s *instance) redisAddresses() map[string]string {
	all := map[string]string{}
	for _, n := range s.status().Nodes {
		if n.Kind == plan.Redis || n.Kind == plan.Sentinel {
			all[n.Name] = n.Address
		}
	}
	return all
}

// requireRedisAddresses checks that each redis node and Sentinel is at its former address.
func (s *instance) requireRedisAddresses(was map[string]string) {
	s.t.Helper()
	is := s.redisAddresses()
	for name, address := range was {
		if is[name] != address {
			s.t.Errorf("%s was at %s, and is at %q", name, address, is[name])
		}
	}
	if len(is) != len(was) {
		s.t.Errorf("Redis' nodes were %v, and are %v", was, is)
	}
}

func TestADrillChangesRedisNodesWithoutAnybodyNoticing(t *testing.T) {
	beside(t, oneStack)
	s, _ := runningInstance(t, minimal(t)+quickRollout)
	unchanged, at := s.requireUnchanged(), s.redisAddresses()
	v := s.drill("apply-redis", "--rate", "100").assertHolds("apply-redis") // this takes about half a minute
	for _, words := range []string{
		"every Sentinel knows the 3 replicas and the 4 other Sentinels", "which was the master, moved from",
		"every Sentinel knows the 2 replicas and the 2 other Sentinels", "the stack is what it was",
	} {
		if len(v.Faults) > 0 && !strings.Contains(v.Faults[0].Evidence, words) {
			t.Errorf("the evidence does not say %q: %s", words, v.Faults[0].Evidence)
		}
	}
	s.requireNothingLeft()
	unchanged()
	s.requireRedisAddresses(at)
}

// The old master is on its way to another port. The old file leaves ports open, so by itself it
// would leave the node there.
func TestADrillThatIsKilledPutsRedisNodesBackWhereTheyWere(t *testing.T) {
	beside(t, oneStack)
	s, _ := runningInstance(t, minimal(t)+quickRollout)
	unchanged, at := s.requireUnchanged(), s.redisAddresses()
	d := s.drill("apply-redis", "--rate", "100")
	d.awaitPhase("restart redis-")
	d.cmd.Process.Kill()
	d.wait()
	s.await("the end of the undo process", 2*time.Minute, func() bool {
		_, err := os.Stat(filepath.Join(s.state, "drill.lock"))
		return err != nil
	})
	s.awaitHealthy()
	s.requireNothingLeft()
	unchanged()
	s.requireRedisAddresses(at)
}
