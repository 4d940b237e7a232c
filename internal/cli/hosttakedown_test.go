package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"holdfast/internal/host"
	"holdfast/internal/logs"
	"holdfast/internal/process"
)

func TestAHostThatIsPurgedLetsNobodyBeginBeforeItHasRemovedEverything(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	release, err := host.Claim(state)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := os.MkdirAll(logs.Dir(state), 0o700); err != nil {
		t.Fatal(err)
	}
	writer := filepath.Join(logs.Dir(state), "writer.lock")
	id, err := process.Identify(os.Getpid()) // runs as long as the test
	if err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(writer, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, runs := logs.Running(state); !runs {
		t.Fatal("there is no log writer to wait for")
	}
	synctest.Test(t, func(t *testing.T) {
		purged := make(chan error)
		go func() { purged <- purgeHost(&hostStart{state: state}) }()
		synctest.Wait() // it waits for the log writer
		if !host.Claimed(state) {
			t.Error("another process may begin a stack here, and files are still removed")
		}
		if err := os.Remove(writer); err != nil {
			t.Error(err)
		}
		if err := <-purged; err != nil {
			t.Error(err)
		}
	})
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Errorf("the state directory is left: %v", err)
	}
}
