package servers

import (
	"strings"
	"testing"
)

func TestAServerIsKnownByItsWords(t *testing.T) {
	for text, want := range map[string]string{
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: long-term":  "HAProxy 2.6.12-1+deb12u4",
		"HA-Proxy version 2.4.22 2023/02/14 - https://haproxy.org/":                              "HAProxy 2.4.22",
		"Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948": "Redis 7.0.15",
		"Valkey server v=8.1.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=384b3c0d511f9": "Valkey 8.1.1",
		"Keepalived v2.3.3 (03/30,2025)":                                                         "keepalived 2.3.3",
		"some program v=9.9.9":                                                                   "",
	} {
		s, ok := Parse(text)
		if ok != (want != "") || ok && s.String() != want {
			t.Errorf("%q is %v, %v", text, s, ok)
		}
		if again, ok := Named(want); ok != (want != "") || ok && again != s {
			t.Errorf("%q is read as %v, %v", want, again, ok)
		}
	}
}

func TestVersionsThatAreTooOldOrWereNotTested(t *testing.T) {
	for text, want := range map[string][2]string{
		"HAProxy 2.2.9": {"2.4", "2.6 and 3.0"}, "HAProxy 2.8.1": {"", "2.6 and 3.0"}, "HAProxy 3.0.11-1+deb13u4": {},
		"Redis 6.2.7": {"7.0", "7.0 and 8.0"}, "Redis 7.0.15": {}, "Redis 7.4.2": {"", "7.0 and 8.0"}, "Redis 10.0.0": {"", "7.0 and 8.0"},
		"Valkey 8.1.4": {}, "Valkey 9.0.0": {"", "8.1"}, "keepalived 2.0.10": {"2.1", "2.2 and 2.3"}, "keepalived 2.3.3": {},
	} {
		s, _ := Named(text)
		if got := [2]string{s.TooOld(), s.Untested()}; got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestWhichHAProxySendsARequestAgain(t *testing.T) {
	for text, want := range map[string]bool{"HAProxy 2.4.22": true, "HAProxy 2.6.12-1+deb12u4": true, "HAProxy 2.8.1": false, "HAProxy 3.0.11": false} {
		if s, _ := Named(text); s.Resends() != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}

func TestWhoReadsWhoseData(t *testing.T) {
	for pair, want := range map[string]bool{
		"Redis 7.0.15 of Redis 7.0.11":  true,
		"Redis 7.0.11 of Redis 7.0.15":  true,
		"Redis 8.0.2 of Redis 7.0.15":   true,
		"Redis 7.0.15 of Redis 8.0.2":   false,
		"Redis 8.0.2 of Redis 8.2.0":    false,
		"Valkey 8.1.1 of Redis 7.0.15":  true,
		"Valkey 8.1.1 of Redis 7.2.4":   true,
		"Valkey 8.1.1 of Redis 7.4.0":   false,
		"Valkey 8.1.1 of Redis 8.0.2":   false,
		"Valkey 9.0.0 of Redis 8.0.2":   false,
		"Valkey 9.0.0 of Valkey 8.1.1":  true,
		"Valkey 8.1.1 of Valkey 9.0.0":  false,
		"Redis 8.0.2 of Valkey 8.1.1":   true,
		"Redis 7.2.4 of Valkey 8.1.1":   true,
		"Redis 7.0.15 of Valkey 8.1.1":  false,
		"Redis 8.0.2 of Valkey 9.0.0":   false,
		"Redis 11.0.0 of Valkey 10.0.0": false,
	} {
		one, other, _ := strings.Cut(pair, " of ")
		s, _ := Named(one)
		of, _ := Named(other)
		if why := s.CannotRead(of); (why == "") != want {
			t.Errorf("%s: %q", pair, why)
		}
	}
}
