package test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// chatProgram is a user's program that looks like WebSockets to a balancer. It does not end before
// the last of them.
const chatProgram = `
import os, signal, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

open_sockets = []

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.headers.get("Upgrade"):
            open_sockets.append(self)
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "websocket")
            self.send_header("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            self.end_headers()
            self.wfile.write(os.environ["HOLDFAST_NODE"].encode() + b"\n")
            while self.rfile.read(1):
                pass
            open_sockets.remove(self)
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass

class Server(ThreadingHTTPServer):
    daemon_threads = True
    def handle_error(self, request, client_address):
        pass

server = Server((os.environ["HOST"], int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *args: threading.Thread(target=server.shutdown).start())
server.serve_forever()
while open_sockets:
    time.sleep(0.05)
`

// An open WebSocket delays a restart by twice the grace: the balancers wait that long for the
// node's requests, and the supervisor for its end.
func TestAnOpenWebSocketDelaysAStopByTheGrace(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, minimal(t)+`
apps:
  chat:
    command: [python3, -u, chat.py]
    nodes: 2
    grace: 1s
    health: {interval: 100ms}
redis: {enabled: false}
rollout: {settle: 100ms}
`)
	if err := os.WriteFile(filepath.Join(s.dir, "chat.py"), []byte(chatProgram), 0o644); err != nil {
		t.Fatal(err)
	}
	s.must("up", "-d")
	entry := strings.TrimPrefix(s.awaitHealthy().Entry, "http://")

	conn, in, node := openChat(t, entry)
	begun := time.Now()
	s.must("restart", node)
	took := time.Since(begun)
	t.Logf("restart of %s took %v", node, took)
	// Its requests have one second and its end another; the rest is the start of the new process.
	if took < 1500*time.Millisecond || took > 8*time.Second {
		t.Errorf("the restart took %v, want 2 s and what a start takes", took)
	}
	if _, err := in.ReadByte(); err == nil {
		t.Error("the WebSocket is still there")
	}
	conn.Close()

	// A node without a WebSocket is not waited for.
	_, _, node = openChat(t, entry)
	other := map[string]string{"chat-1": "chat-2", "chat-2": "chat-1"}[node]
	begun = time.Now()
	s.must("restart", other)
	if took := time.Since(begun); took > 6*time.Second {
		t.Errorf("the restart of a node without any took %v", took)
	}
	begun = time.Now()
	s.must("rollout", "chat")
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("a rollout took %v", took)
	}
}

// openChat opens a WebSocket, and returns the node that has it.
func openChat(t *testing.T, entry string) (net.Conn, *bufio.Reader, string) {
	t.Helper()
	conn, err := net.Dial("tcp", entry)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	in := bufio.NewReader(conn)
	if r, err := http.ReadResponse(in, nil); err != nil || r.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", r, err)
	}
	node, err := in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return conn, in, strings.TrimSpace(node)
}
