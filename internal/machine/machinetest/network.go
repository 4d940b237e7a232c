package machinetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/machine"
)

func (h *host) runs() {
	out, err := h.Machine.Run(h.ctx, "/bin/sh", "-c", "echo out; echo err >&2")
	if err != nil || string(out.Text) != "out\nerr\n" || out.Code != 0 {
		h.Errorf("it ends well: %+v, %v", out, err)
	}
	out, err = h.Machine.Run(h.ctx, "/bin/sh", "-c", "echo no; exit 3")
	if err != nil || string(out.Text) != "no\n" || out.Code != 3 || !strings.Contains(out.How, "3") {
		h.Errorf("it refuses: %+v, %v", out, err)
	}
	out, err = h.Machine.Run(h.ctx, "/bin/sh", "-c", "kill -9 $$")
	if err != nil || out.Code != -1 || !strings.Contains(out.How, "killed") {
		h.Errorf("it is killed: %+v, %v", out, err)
	}
	if _, err = h.Machine.Run(h.ctx, "/none/such"); !errors.Is(err, fs.ErrNotExist) {
		h.Errorf("a program that is not there: %v", err)
	}
	ctx, cancel := context.WithTimeout(h.ctx, 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err = h.Machine.Run(ctx, "/bin/sleep", "1000"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 5*time.Second {
		h.Errorf("a program that hangs: %v after %v", err, time.Since(began))
	}
}

func (h *host) looksPrograms() {
	if path, err := h.LookPath(h.ctx, "sh"); err != nil || !filepath.IsAbs(path) || filepath.Base(path) != "sh" {
		h.Errorf("sh: %q, %v", path, err)
	}
	if path, err := h.LookPath(h.ctx, "no-such-program-anywhere"); !errors.Is(err, exec.ErrNotFound) {
		h.Errorf("a program that is not there: %q, %v", path, err)
	}
}

func (h *host) digests() {
	digest := func(path string) string {
		h.Helper()
		d, err := h.Digest(h.ctx, path)
		h.must(err)
		return d
	}
	h.write("nodes/f", "one")
	one := digest(h.Path("nodes", "f"))
	h.write("nodes/f", "two")
	two := digest(h.Path("nodes", "f"))
	h.write("nodes/f", "one")
	if again := digest(h.Path("nodes", "f")); one == two || again != one || one == "" {
		h.Errorf("digests %q, %q and %q", one, two, again)
	}
}

func (h *host) dials() {
	for _, c := range []struct{ network, listen string }{{"tcp", "127.0.0.1:0"}, {"unix", h.Path("nodes", "s")}} {
		l, err := net.Listen(c.network, c.listen)
		h.must(err)
		defer l.Close()
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			b, _ := io.ReadAll(conn) // until the other end closes its direction
			_, _ = conn.Write(bytes.ToUpper(b))
		}()

		address := l.Addr().String()
		if c.network == "unix" {
			address = "nodes/s"
		}
		conn, err := h.Dial(h.ctx, c.network, address)
		h.must(err)
		defer conn.Close()
		h.must(conn.SetDeadline(time.Now().Add(10 * time.Second)))

		_, err = conn.Write([]byte("hello"))
		h.must(err)

		half, can := conn.(interface{ CloseWrite() error })
		if !can {
			h.Fatalf("one end of a connection by %s cannot be closed alone", c.network)
		}
		h.must(half.CloseWrite())
		if got, err := io.ReadAll(conn); err != nil || string(got) != "HELLO" {
			h.Errorf("%s: %q, %v", c.network, got, err)
		}
	}
}

func (h *host) isRefused() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	h.must(err)
	address := l.Addr().String()
	h.must(l.Close())
	if conn, err := h.Dial(h.ctx, "tcp", address); conn != nil || !errors.Is(err, machine.ErrRefused) {
		h.Errorf("nobody listens: %v, %v", conn, err)
	}
	if conn, err := h.Dial(h.ctx, "unix", "nodes/none"); conn != nil || !errors.Is(err, fs.ErrNotExist) {
		h.Errorf("there is no such socket: %v, %v", conn, err)
	}
	ctx, cancel := context.WithCancel(h.ctx)
	cancel()
	if conn, err := h.Dial(ctx, "tcp", address); conn != nil || err == nil {
		h.Errorf("its time is over: %v, %v", conn, err)
	}
}

func (h *host) knowsFreeAddresses() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	h.must(err)
	defer l.Close()
	address := l.Addr().String()
	port := l.Addr().(*net.TCPAddr).Port
	if err := h.Free(h.ctx, address); !errors.Is(err, machine.ErrTaken) || !strings.Contains(err.Error(), "in use") {
		h.Errorf("an address that is taken: %v", err)
	}
	if who := h.Holder(h.ctx, port); !strings.Contains(who, fmt.Sprintf("(pid %d)", os.Getpid())) {
		h.Errorf("its holder: %q", who)
	}
	h.must(l.Close())
	h.must(h.Free(h.ctx, address))
	h.must(h.Free(h.ctx, address)) // the first check did not keep it
	if who := h.Holder(h.ctx, port); who != "" {
		h.Errorf("the holder of a free port: %q", who)
	}
	if err := h.Free(h.ctx, "192.0.2.1:80"); err == nil || errors.Is(err, machine.ErrTaken) {
		h.Errorf("an address of no machine: %v", err)
	}
}

func (h *host) hasFacts() {
	f, err := h.Facts(h.ctx)
	h.must(err)
	if f.Cores < 1 || f.FreeDisk == 0 || f.Now == 0 || f.User == "" || !slices.ContainsFunc(f.Links, func(l machine.Link) bool { return slices.Contains(l.Addresses, "127.0.0.1") }) {
		h.Errorf("facts: %+v", f)
	}
	if !h.Present(h.ctx) {
		h.Error("the host is away")
	}
	if h.Path("nodes", "x-1") != filepath.Join(h.dir, "nodes", "x-1") {
		h.Errorf("a path: %s", h.Path("nodes", "x-1"))
	}
}
