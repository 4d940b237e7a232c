package pod

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/identity"
	"holdfast/internal/plan"
)

// authorityOf derives the authority of a stack from a secret of equal bytes.
func authorityOf(t *testing.T, secret byte) *identity.Authority {
	t.Helper()
	a, err := identity.DeriveAuthority("shop", []byte(strings.Repeat(string(rune(secret)), identity.DerivedKeySize)))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// identityOf opens the identity of a pod in a directory.
func identityOf(t *testing.T, dir string, a *identity.Authority, node string, life time.Duration) *Identity {
	t.Helper()
	addresses, err := Addresses("198.18.0.7", "127.0.0.1", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	id, err := OpenIdentity(dir, a, Bearer{Node: node, Addresses: addresses, Life: life})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// startServer starts a Server at a free port of this machine, and returns its address.
func startServer(t *testing.T) (*Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(l)
	t.Cleanup(func() { s.Close() })
	return s, l.Addr().String()
}

func TestPodsBelieveOnlyEachOther(t *testing.T) {
	s, address := startServer(t)
	s.SetAbout(func() Answer { return Answer{Node: "redis-1", Booted: true} })
	ours, other := authorityOf(t, 'a'), authorityOf(t, 'b')
	asker := identityOf(t, t.TempDir(), ours, "redis-2", time.Hour)
	if _, err := ask(t.Context(), address, asker.Client("redis-1")); err == nil {
		t.Error("a pod without a certificate is believed")
	}

	s.SetTLS(identityOf(t, t.TempDir(), ours, "redis-1", time.Hour).Server())
	if a, err := ask(t.Context(), address, asker.Client("redis-1")); err != nil || !a.Booted {
		t.Errorf("the pod answers %+v, %v", a, err)
	}
	if _, err := ask(t.Context(), address, asker.Client("redis-3")); err == nil {
		t.Error("redis-1 is taken for redis-3")
	}
	stranger := identityOf(t, t.TempDir(), other, "redis-2", time.Hour)
	if _, err := ask(t.Context(), address, stranger.Client("redis-1")); err == nil {
		t.Error("a pod of another stack takes it for one of its own")
	}
	trusting := &tls.Config{InsecureSkipVerify: true}
	if a, err := ask(t.Context(), address, trusting); err == nil {
		t.Errorf("who has no certificate is told %+v", a)
	}
	s.SetTLS(identityOf(t, t.TempDir(), other, "redis-1", time.Hour).Server())
	if a, err := ask(t.Context(), address, asker.Client("redis-1")); err == nil {
		t.Errorf("a forged pod is believed: %+v", a)
	}
}

func TestTheKubeletIsToldNothingOfTheStack(t *testing.T) {
	s, address := startServer(t)
	s.SetAbout(func() Answer { return Answer{Node: "redis-1", Booted: true} })
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	for path, want := range map[string]int{LivePath: 200, ReadyPath: 503, AboutPath: 404} {
		if status, body := get(path); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
	}
	s.SetReady(func() error { return nil })
	if status, body := get(ReadyPath); status != 200 {
		t.Errorf("ready: %d %s", status, body)
	}
	// A silent connection holds up neither the others nor the end of the server.
	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if status, _ := get(LivePath); status != 200 {
		t.Errorf("beside a silent connection: %d", status)
	}
}

func TestACertificateIsKeptWhileItIsGood(t *testing.T) {
	dir, a := t.TempDir(), authorityOf(t, 'a')
	first := identityOf(t, dir, a, "redis-1", time.Hour).keeper.Credentials()
	again := func(a *identity.Authority, node string) identity.Credentials {
		return identityOf(t, dir, a, node, time.Hour).keeper.Credentials()
	}
	if !again(a, "redis-1").Certificate.Equal(first.Certificate) {
		t.Error("a start makes another certificate")
	}
	if again(a, "redis-2").Peer().Name != "redis-2" {
		t.Error("another node has the certificate of the first")
	}
	b := authorityOf(t, 'b')
	if !again(b, "redis-2").Authority.Equal(b.Certificate()) {
		t.Error("with another seed, the former authority stays")
	}
	if err := os.WriteFile(filepath.Join(dir, plan.CertificateFile), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again(b, "redis-2").Peer().Name != "redis-2" {
		t.Error("a damaged file is not replaced")
	}
}

func TestACertificateIsRenewedWhileThePodLives(t *testing.T) {
	dir := t.TempDir()
	id := identityOf(t, dir, authorityOf(t, 'a'), "web-1", 3*time.Second) // the times in certificates are whole seconds
	first := id.keeper.Credentials().Certificate
	ctx, end := context.WithCancel(t.Context())
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		id.Keep(ctx, slog.New(slog.DiscardHandler))
	}()
	defer func() {
		end()
		<-kept
	}()
	if !clock.Within(10*time.Second, 10*time.Millisecond, func() bool { return !id.keeper.Credentials().Certificate.Equal(first) }) {
		t.Fatal("it is the first one still")
	}
	if now := id.keeper.Credentials(); !now.Peer().Same(identity.Peer{Stack: "shop", Role: identity.Host, Name: "web-1", ID: now.Peer().ID}) || len(now.Certificate.IPAddresses) != 2 {
		t.Errorf("the new one is for %v at %v", now.Peer(), now.Certificate.IPAddresses)
	}
}
