package static

import (
	"context"
	"fmt"
	"io"
	"net"

	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// site makes a directory with everything that a server may get wrong.
func site(t *testing.T) string {
	t.Helper()
	outside := t.TempDir()
	dir := filepath.Join(t.TempDir(), "site")
	write := func(path, text string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "secret"), "secret")
	write(filepath.Join(dir, "style.css"), "body{}")
	write(filepath.Join(dir, "numbers"), "0123456789")
	write(filepath.Join(dir, ".env"), "secret")
	write(filepath.Join(dir, ".git/config"), "secret")
	write(filepath.Join(dir, "page/index.html"), "<p>page")
	write(filepath.Join(dir, "plain/a.txt"), "a")
	for link, target := range map[string]string{
		"out": filepath.Join(outside, "secret"), "outdir": outside, "up": "../../", "in": "style.css",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serve serves a directory until the test ends.
func serve(t *testing.T, dir string) string {
	t.Helper()
	s, err := Open(dir, "static-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		_ = s.Close()
	})
	return ln.Addr().String()
}

func TestFiles(t *testing.T) {
	addr := serve(t, site(t))
	for _, test := range []struct {
		method, path, rng string
		status            int
		body              string
	}{
		{"GET", "/style.css", "", 200, "body{}"},
		{"HEAD", "/style.css", "", 200, ""},
		{"GET", "/numbers", "bytes=2-4", 206, "234"},
		{"GET", "/in", "", 200, "body{}"},
		{"GET", "/page/", "", 200, "<p>page"},
		{"GET", "/page", "", 301, ""},
		{"GET", "/", "", 404, ""},
		{"GET", "/plain/", "", 404, ""},
		{"GET", "/plain/a.txt", "", 200, "a"},
		{"GET", "/nothing", "", 404, ""},
		{"GET", "/.env", "", 404, ""},
		{"GET", "/.git/config", "", 404, ""},
		{"GET", "/out", "", 404, ""},
		{"GET", "/outdir/secret", "", 404, ""},
		{"GET", "/up/", "", 404, ""},
		{"GET", "/pipe", "", 404, ""},
		{"GET", "/../secret", "", 404, ""},
		{"GET", "/%2e%2e/%2e%2e/etc/passwd", "", 404, ""},
		{"GET", "/page%2f..%2f..%2fsecret", "", 404, ""},
		{"GET", "/style.css%00", "", 404, ""},
		{"POST", "/style.css", "", 405, ""},
		{"GET", HealthPath, "", 200, "live\n"},
		{"HEAD", HealthPath, "", 200, ""},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			// The request is written by hand, because a client would clean the path.
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			raw := test.method + " " + test.path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
			if test.rng != "" {
				raw += "Range: " + test.rng + "\r\n"
			}
			if _, err := io.WriteString(conn, raw+"\r\n"); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			head, body, _ := strings.Cut(string(answer), "\r\n\r\n")
			if !strings.HasPrefix(head, fmt.Sprintf("HTTP/1.1 %d ", test.status)) {
				t.Errorf("answer %q, want status %d", head, test.status)
			}
			if (test.status < 300) && body != test.body || strings.Contains(body, "secret\n") || body == "secret" {
				t.Errorf("body %q, want %q", body, test.body)
			}
			if strings.HasPrefix(test.path, "/style.css") && test.status == 200 && !strings.Contains(head, "Last-Modified: ") {
				t.Errorf("no Last-Modified in %q", head)
			}
			if !strings.Contains(head, "Holdfast-Node: static-1") {
				t.Errorf("no Holdfast-Node in %q", head)
			}
		})
	}
}

func TestAMissingDirectoryIsNamed(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none"), "", nil); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("error %v does not name the directory", err)
	}
}
