package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A full disk may leave an append-only file that is broken in the middle.
func TestAReplicaWithADamagedFileGetsItsDataFromTheMaster(t *testing.T) {
	beside(t, oneStack)
	s, st := runningInstance(t, minimal(t)+"redis:\n  replicas: 1\n")
	expect(t, st.Entry+"/set?key=k&value=v", 200, "OK. We have set k to be v")
	s.must("stop", "redis-2")
	data := filepath.Join(s.state, "nodes", "redis-2", "data", "appendonlydir")
	files, err := filepath.Glob(filepath.Join(data, "*.incr.aof"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		was, err := os.ReadFile(f)
		if err == nil {
			err = os.WriteFile(f, append([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nlo"), was...), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.must("start", "redis-2")
	s.awaitHealthy()
	if got := s.redisCLI("redis-2", "get", "k"); got != "v" {
		t.Errorf("the replica has %q", got)
	}
	if _, err := os.Stat(data + ".damaged"); err != nil {
		t.Errorf("the file was not kept: %v", err)
	}
	if log := s.must("logs", "supervisor"); !strings.Contains(log, "set aside") {
		t.Error("the supervisor's log does not say so")
	}

	// The file of a master is not touched, because no other node has its data.
	s.must("stop", "redis-2")
	s.must("stop", "redis-1")
	file := filepath.Join(s.state, "nodes", "redis-1", "data", "appendonlydir", "appendonly.aof.manifest")
	if err := os.WriteFile(file, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.fails(1, "start", "redis-1")
	time.Sleep(time.Second) // for more attempts to start it
	if b, err := os.ReadFile(file); err != nil || string(b) != "nonsense\n" {
		t.Errorf("the file of a master is %q, %v", b, err)
	}
}
