package pod

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// On Linux every address in 127.0.0.0/8 belongs to this machine, so a test can connect from many.

// connectFrom connects from an address of this machine.
func connectFrom(ctx context.Context, source, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	return d.DialContext(ctx, "tcp", to)
}

// probeFrom sends a probe like a kubelet, and returns the status.
func probeFrom(t *testing.T, source, address string) (int, error) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, to string) (net.Conn, error) {
			return connectFrom(ctx, source, to)
		},
	}}
	answer, err := client.Get("http://" + address + LivePath)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

// crowd opens connections to a port that send some words and then nothing. They stay open until
// the test ends, unless the port closes them.
func crowd(t *testing.T, address, words string, count int, source func(i int) string) {
	t.Helper()
	for i := range count {
		conn, err := connectFrom(t.Context(), source(i), address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, words); err != nil {
			t.Logf("connection %d: %v", i, err) // the port has closed it already
		}
	}
}

func TestTheKubeletIsAnsweredBesideACrowd(t *testing.T) {
	one := func(int) string { return "127.0.0.1" }
	many := func(i int) string { return fmt.Sprintf("127.1.%d.%d", i/250, 1+i%250) }
	for _, c := range []struct {
		what, words string
		source      func(int) string
	}{
		{"silent", "", one},
		{"silent, each from another address", "", many},
		{"with a half request", "GET /live HTTP/1.1\r\n", one},
		{"with half a request, each from another address", "G", many},
		{"with a request that was answered", "GET /live HTTP/1.1\r\nHost: pod\r\n\r\n", one},
		{"with a request whose body never comes", "GET /live HTTP/1.1\r\nHost: pod\r\nContent-Length: 9\r\n\r\n", one},
		{"with the beginning of TLS", "\x16\x03\x01", one},
	} {
		t.Run(c.what, func(t *testing.T) {
			s, address := startServer(t)
			s.SetTLS(identityOf(t, t.TempDir(), authorityOf(t, 'a'), "redis-1", time.Hour).Server())
			crowd(t, address, c.words, 1000, c.source)
			for range 10 {
				for _, source := range []string{"127.0.0.2", "127.0.0.1"} {
					if status, err := probeFrom(t, source, address); err != nil || status != http.StatusOK {
						t.Fatalf("a probe from %s beside 1000 connections: %d, %v", source, status, err)
					}
				}
			}
			if _, err := ask(t.Context(), address, identityOf(t, t.TempDir(), authorityOf(t, 'a'), "redis-2", time.Hour).Client("redis-1")); err == nil {
				t.Error("a pod that has not begun tells something")
			}
			s.port.limit.mu.Lock()
			defer s.port.limit.mu.Unlock()
			if n := s.port.limit.count; n > mostConnections {
				t.Errorf("%d connections are there", n)
			}
		})
	}
}

// New connections keep coming while the kubelet sends its probes.
func TestTheKubeletIsAnsweredWhileACrowdComes(t *testing.T) {
	_, address := startServer(t)
	ctx, end := context.WithCancel(t.Context())
	came := make(chan int)
	go func() {
		n := 0
		defer func() { came <- n }()
		for ; ctx.Err() == nil; n++ {
			if conn, err := connectFrom(ctx, "127.0.0.1", address); err == nil {
				defer conn.Close()
			}
			time.Sleep(100 * time.Microsecond)
		}
	}()
	failed := 0
	for range 50 {
		if status, err := probeFrom(t, "127.0.0.2", address); err != nil || status != http.StatusOK {
			failed++
		}
		time.Sleep(20 * time.Millisecond)
	}
	end()
	if n := <-came; failed > 0 || n < 4*mostFrom {
		t.Errorf("%d of 50 probes failed beside %d connections", failed, n)
	}
}

func TestAConnectionThatIsSilentIsEnded(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes as long as the port's patience")
	}
	s, address := startServer(t)
	s.SetTLS(identityOf(t, t.TempDir(), authorityOf(t, 'a'), "redis-1", time.Hour).Server())
	for what, words := range map[string]string{"nothing": "", "half a request": "GET ", "half a handshake": "\x16\x03\x01", "one request": "GET /live HTTP/1.1\r\nHost: pod\r\n\r\n"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, words); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(patience + 5*time.Second))
			if _, err := io.Copy(io.Discard, bufio.NewReader(conn)); err != nil {
				t.Errorf("it stays: %v", err)
			}
		})
	}
}

// Handshakes that never end do not hold up the end of the server either.
func TestAServerEndsBesideACrowd(t *testing.T) {
	s, address := startServer(t)
	s.SetTLS(identityOf(t, t.TempDir(), authorityOf(t, 'a'), "redis-1", time.Hour).Server())
	crowd(t, address, "\x16\x03\x01", 20, func(int) string { return "127.0.0.1" })
	crowd(t, address, "", 20, func(int) string { return "127.0.0.1" })
	if _, err := probeFrom(t, "127.0.0.2", address); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.Close()
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %v", took)
	}
	if _, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("it answers still")
	}
}
