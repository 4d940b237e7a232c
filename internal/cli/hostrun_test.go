package cli

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"holdfast/internal/control"
	"holdfast/internal/host"
	"holdfast/internal/machine"
	"holdfast/internal/stack"
)

func TestAHostWhoseSupervisorDoesNotBeginHandsOver(t *testing.T) {
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, "running.json"), []byte("{damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, _, err := stack.Parse("holdfast.yaml", []byte("hosts: {one: {address: 198.18.7.1}, two: {address: 198.18.7.2}, three: {address: 198.18.7.3}}\nentry: {auth: none}\n"))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p := &hostProcess{
			hostStart: &hostStart{state: state, file: true, stack: file},
			g:         &globals{}, log: slog.New(slog.DiscardHandler),
		}
		var handed []string
		l := host.Leadership{
			Here: "one", Hosts: []host.Member{{Name: "one"}, {Name: "two", AgreementID: "2"}, {Name: "three", AgreementID: "3"}},
			Machine:  func(string) machine.Machine { return machine.NewLocal(state) },
			Answer:   func(http.Handler) {},
			HandOver: func(why error) { handed = append(handed, why.Error()) },
		}
		for try := 1; try <= 2*leadTries; try++ {
			if err := p.lead(t.Context(), l); err == nil || !strings.Contains(err.Error(), "running.json is damaged") {
				t.Fatalf("try %d: %v", try, err)
			}
			if want := try / leadTries; len(handed) != want {
				t.Errorf("after %d tries it has handed over %d times, want %d: %q", try, len(handed), want, handed)
			}
		}
		if !strings.Contains(handed[0], "host one") || !strings.Contains(handed[0], "damaged") {
			t.Errorf("it hands over because %q", handed[0])
		}
	})
}

func TestAHostWhoseSupervisorWaitsForAnotherHostDoesNotHandOver(t *testing.T) {
	p := &hostProcess{}
	for range 2 * leadTries {
		if p.givesUp(&control.WaitsError{Why: "it starts when host three is up"}) {
			t.Fatal("it hands over")
		}
	}
}
