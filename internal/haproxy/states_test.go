package haproxy

import "testing"

func TestTheStateOfAServerThatHasMovedIsLeftOut(t *testing.T) {
	line := func(backend, server, address, port string) string {
		return "3 " + backend + " 1 " + server + " " + address + " 2 0 1 1 52 6 3 4 6 0 0 0 - " + port + " - 0 0 - - 0\n"
	}
	head := "1\n# be_id be_name srv_id srv_name srv_addr\n"
	states := head + line("web", "web-1", "127.0.0.1", "5001") + line("web", "web-2", "127.0.0.1", "5002") +
		line("web", "web-3", "127.0.0.1", "5003") + line("old", "web-1", "127.0.0.1", "5001") + "\n"
	config := "frontend entry\nbackend web\n    server web-1 127.0.0.1:5001 check\n    server web-2 127.0.0.1:6002 check\n"
	if got, want := KeepStates(states, config), head+line("web", "web-1", "127.0.0.1", "5001"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
