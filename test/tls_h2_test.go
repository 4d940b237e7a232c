package test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Socket is a WebSocket on a connection of HTTP/2 (RFC 8441). It is the only stream there.
type h2Socket struct {
	*http2.Framer
	conn *tls.Conn
}

// openH2Socket opens a WebSocket of the program headers.
func (s *secureStack) openH2Socket(t *testing.T) *h2Socket {
	t.Helper()
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.entry), &tls.Config{ServerName: "www.example.com", RootCAs: s.roots, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	w := &h2Socket{http2.NewFramer(conn, conn), conn}
	w.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := w.WriteSettings(); err != nil {
		t.Fatal(err)
	}

	first, err := w.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, is := first.(*http2.SettingsFrame)
	if !is {
		t.Fatalf("the balancer begins with %v", first)
	}
	if v, has := settings.Value(http2.SettingEnableConnectProtocol); !has || v != 1 {
		t.Fatal("the balancer does not say that it takes WebSockets by HTTP/2")
	}
	if err := w.WriteSettingsAck(); err != nil {
		t.Fatal(err)
	}

	var head bytes.Buffer
	encoder := hpack.NewEncoder(&head)
	for _, field := range [][2]string{
		{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "https"}, {":path", "/headers"}, {":authority", "www.example.com"},
		{"sec-websocket-version", "13"}, {"origin", "https://www.example.com"},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	answer, err := w.next()
	if err != nil {
		t.Fatal(err)
	}
	if h, is := answer.(*http2.MetaHeadersFrame); !is || h.PseudoValue("status") != "200" {
		t.Fatalf("the answer is %v", answer)
	}
	return w
}

// next returns the next frame of the stream.
func (w *h2Socket) next() (http2.Frame, error) {
	for {
		frame, err := w.ReadFrame()
		if err != nil {
			return nil, err
		}
		switch f := frame.(type) {
		case *http2.PingFrame:
			if !f.IsAck() {
				err = w.WritePing(true, f.Data)
			}
		case *http2.SettingsFrame, *http2.WindowUpdateFrame, *http2.GoAwayFrame:
		default:
			return frame, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// echo sends a text, and returns what comes back.
func (w *h2Socket) echo(text string) (string, error) {
	if err := w.WriteData(1, false, []byte(text)); err != nil {
		return "", err
	}
	got := ""
	for len(got) < len(text) {
		frame, err := w.next()
		if err != nil {
			return got, err
		}
		data, is := frame.(*http2.DataFrame)
		if !is {
			return got, fmt.Errorf("a frame %v", frame)
		}
		got += string(data.Data())
	}
	return got, nil
}

// speaksWebSocketByH2 checks that a WebSocket may be a stream of HTTP/2, and that it outlives a
// reload of the balancers like any other.
func (s *secureStack) speaksWebSocketByH2(t *testing.T) {
	w := s.openH2Socket(t)
	if got, err := w.echo("kelp"); err != nil || got != "kelp" {
		t.Errorf("sent back is %q, %v", got, err)
	}
	s.write(strings.Replace(s.withCertificates(""), "hsts: 180d", "hsts: 181d", 1))
	s.must("apply", "--yes")
	if got, err := w.echo("holdfast"); err != nil || got != "holdfast" {
		t.Errorf("after a reload, sent back is %q, %v", got, err)
	}
}

// keepsStreams checks that no request is lost when clients have many on each connection of HTTP/2,
// and the balancers reload and start anew.
func (s *secureStack) keepsStreams(t *testing.T) {
	const connections, streams = 3, 8
	stop := make(chan struct{})
	var mu sync.Mutex
	var failed []string
	done := map[string]int{}
	var asking sync.WaitGroup
	for range connections {
		client := http.Client{Transport: s.transport(true), Timeout: 20 * time.Second}
		ask := func(kind string) error {
			var resp *http.Response
			var err error
			switch kind {
			case "write":
				resp, err = client.Post("https://www.example.com/", "application/json", strings.NewReader(`["SET","stream","1"]`))
			case "poll":
				resp, err = client.Get("https://www.example.com/v1/keys/nothing?wait=500ms")
			}
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err == nil && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNotFound {
				err = fmt.Errorf("%s: %s", resp.Status, body)
			}
			return err
		}
		for i := range streams {
			kind := []string{"write", "poll"}[i%2]
			asking.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
					}
					err := ask(kind)
					mu.Lock()
					if done[kind]++; err != nil {
						failed = append(failed, kind+": "+err.Error())
					}
					mu.Unlock()
				}
			})
		}
	}

	s.must("restart", "balancer-1")
	s.must("restart", "balancer-2")
	s.write(s.withCertificates(""))
	s.must("apply", "--yes")
	close(stop)
	asking.Wait()
	if len(failed) > 0 || done["write"] < 100 || done["poll"] < 24 {
		t.Errorf("of %v requests %d failed: %.5q", done, len(failed), failed)
	}
}
