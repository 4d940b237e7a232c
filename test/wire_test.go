//go:build linux

package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/haproxy"
	"holdfast/internal/keypair"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/redis"
	"holdfast/internal/supervise"
)

// tap captures what passes between the hosts of a test, and looks for words in it.
type tap struct {
	fd      int
	mu      sync.Mutex
	words   map[string]string // the words by what they are
	heard   map[string]bool
	packets int
	work    sync.WaitGroup
}

// newTap listens at the bridge between the hosts.
func newTap(t *testing.T, one *netnsHost) *tap {
	t.Helper()
	tap := &tap{words: map[string]string{}, heard: map[string]bool{}}
	bridge := filepath.Join("/run/netns", strings.TrimSuffix(one.netns, "1")+"0")
	all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
	if err := process.Within(bridge, func() (err error) {
		tap.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, int(all))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(tap.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	tap.work.Go(func() {
		buffer := make([]byte, 128<<10)
		for ctx.Err() == nil {
			if n, _, err := unix.Recvfrom(tap.fd, buffer, 0); err == nil {
				tap.look(buffer[:n])
			}
		}
	})
	t.Cleanup(func() {
		end()
		tap.work.Wait()
		unix.Close(tap.fd)
	})
	return tap
}

func (c *tap) look(packet []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packets++
	for what, word := range c.words {
		if bytes.Contains(packet, []byte(word)) {
			c.heard[what] = true
		}
	}
}

// listenFor makes the tap look for the secrets of the stack and for more words.
func (c *tap) listenFor(t *testing.T, state string, more map[string]string) {
	t.Helper()
	secrets, err := supervise.Secrets(state)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for v, i := reflect.ValueOf(secrets), 0; i < v.NumField(); i++ {
		if word, is := v.Field(i).Interface().(string); is && word != "" {
			c.words["the password "+v.Type().Field(i).Name] = word
		}
	}
	for what, word := range more {
		c.words[what] = word
	}
}

// forget clears what the tap has heard.
func (c *tap) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.heard)
}

func (c *tap) hears(what string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard[what]
}

// ask requests a path from the entry at a host, from that host.
func (h *netnsHost) ask(path string) error {
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = process.Within(filepath.Join("/run/netns", h.netns), func() (err error) {
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}}
	req, err := http.NewRequest(http.MethodGet, "http://"+h.address+":8080"+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+wireToken)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}

const (
	wireToken = "token-3141592653589793"
	wireValue = "value-2718281828459045"
)

// startWire starts a stack on three hosts, with a tap between them.
func startWire(t *testing.T, network string) (map[string]*netnsHost, *tap) {
	hosts := newNetnsHosts(t)
	one, two, three := hosts["one"], hosts["two"], hosts["three"]
	tap := newTap(t, one)
	file := fmt.Sprintf("name: shop\nentry: {listen: \"0.0.0.0:8080\", auth: none}\n%shosts:\n  one: {address: %s}\n  two: {address: %s}\n  three: {address: %s, only: [sentinel]}\nredis: {replicas: 3}\n",
		network, one.address, two.address, three.address)
	if err := os.WriteFile(filepath.Join(one.dir, "holdfast.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	one.must("up", "-d")
	two.must("join", one.token("two"), "-d")
	three.must("join", one.token("three"), "-d")
	one.awaitReady()
	tap.listenFor(t, one.state, map[string]string{"the value": wireValue, "the token": wireToken})
	return hosts, tap
}

func TestATrustedNetworkIsInPlain(t *testing.T) {
	beside(t, oneStack)
	hosts, tap := startWire(t, "network: trusted\n")
	one := hosts["one"]
	one.eventually("the tap hears the value and a token", func() bool {
		if err := one.ask("/set/k/" + wireValue); err != nil {
			t.Fatal(err)
		}
		return tap.hears("the value") && tap.hears("the token")
	})
	pid := pids(one.awaitReady())["redis-1"]
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	one.eventually("the tap hears passwords of new connections", func() bool {
		_ = one.ask("/get/k")
		return tap.hears("the password Replication") && tap.hears("the password Sentinel") && tap.hears("the password Web")
	})

	// While the stack is down its network is changed, and all hosts switch to TLS together.
	one.must("down")
	file, err := os.ReadFile(filepath.Join(one.dir, "holdfast.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		h.write(strings.Replace(string(file), "network: trusted\n", "", 1))
	}
	tap.forget()
	one.must("up", "-d")
	requireWords(t, hosts["two"].must("up", "-d"), "network: encrypted", "was up with trusted", "host three is up")
	hosts["three"].must("up", "-d")
	one.awaitReady()
	one.eventually("the value is there still", func() bool { return one.ask("/get/k") == nil })
	one.showsItsCertificate()
	if tap.hears("the value") || tap.hears("the token") || tap.hears("the password Web") || tap.hears("the password Replication") {
		t.Error("a value or a password passes in plain between hosts that turned to TLS")
	}
	one.must("down")
}

func TestNothingBetweenHostsIsInPlain(t *testing.T) {
	beside(t, oneStack)
	hosts, tap := startWire(t, "")
	one := hosts["one"]
	for _, h := range []*netnsHost{one, hosts["two"]} {
		h.eventually("every balancer reaches every node", func() bool {
			st, ok := h.status()
			for _, n := range st.Nodes {
				ok = ok && n.Excluded == "" && len(st.Unserved) == 0
			}
			return ok && h.leadsToRedis()
		})
	}

	// Certificates are renewed while clients write and read.
	ctx, end := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	asked := 0
	clients.Go(func() {
		for ; ctx.Err() == nil; asked++ {
			path := []string{"/set/k/" + wireValue, "/get/k"}[asked%2]
			if err := one.ask(path); err != nil {
				t.Errorf("%s, while certificates are renewed: %v", path, err)
			}
		}
	})
	for _, h := range hosts {
		requireWords(t, h.must("host", "renew"), "The certificate of host "+h.name+" is new")
	}
	for _, h := range hosts {
		h.showsItsCertificate()
	}
	end()
	clients.Wait()
	if asked < 20 {
		t.Errorf("only %d requests were made meanwhile", asked)
	}

	// A failover happens.
	var master supervise.NodeStatus
	for _, n := range one.awaitReady().Nodes {
		if n.Role == "master" {
			master = n
		}
	}
	if err := syscall.Kill(master.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	one.eventually("another node is the master, and all follow it", func() bool {
		st, ok := one.status()
		another := false
		for _, n := range st.Nodes {
			another = another || n.Role == "master" && n.Name != master.Name
			ok = ok && n.State == supervise.Up
		}
		return ok && another
	})
	if err := one.ask("/set/k/" + wireValue); err != nil {
		t.Errorf("after the failover: %v", err)
	}

	tap.mu.Lock()
	defer tap.mu.Unlock()
	if tap.packets < 1000 || len(tap.words) < 10 {
		t.Errorf("the tap has heard %d packets, and looks for %d words", tap.packets, len(tap.words))
	}
	for what := range tap.heard {
		t.Errorf("%s passes between the hosts in plain", what)
	}
}

// leadsToRedis reports whether the balancers of a host lead its programs to the Redis master.
func (h *netnsHost) leadsToRedis() bool {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.state, "stack.json"))
	if err != nil {
		h.t.Fatal(err)
	}
	var kept struct{ Ports map[string]int }
	if err := json.Unmarshal(text, &kept); err != nil {
		h.t.Fatal(err)
	}
	secrets, err := supervise.Secrets(h.state)
	if err != nil {
		h.t.Fatal(err)
	}
	admin := redis.NewAdmin(redis.Way{Dial: func(ctx context.Context, address string) (conn net.Conn, err error) {
		err = process.Within(filepath.Join("/run/netns", h.netns), func() (err error) {
			conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
			return err
		})
		return conn, err
	}}, fmt.Sprintf("127.0.0.1:%d", kept.Ports[plan.PortRedisMaster]), "operator", secrets.Operator)
	defer admin.Close()
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*time.Second)
	defer cancel()
	standing, err := admin.Standing(ctx)
	return err == nil && standing.Master
}

// showsItsCertificate waits until the redis nodes, Sentinels and balancers of a host use the
// certificate that the host has now.
func (h *netnsHost) showsItsCertificate() {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.state, plan.CertificateFile))
	if err != nil {
		h.t.Fatal(err)
	}
	var own *x509.Certificate
	for block, rest := pem.Decode(text); own == nil && block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			if own, err = x509.ParseCertificate(block.Bytes); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	settings, err := keypair.Hosts(filepath.Join(h.state, plan.CertificateFile), filepath.Join(h.state, plan.AuthorityFile))
	if err != nil || settings == nil {
		h.t.Fatalf("host %s has no certificate: %v", h.name, err)
	}
	settings.ServerName = h.address
	shows := func(address string) bool {
		var serial string
		_ = process.Within(filepath.Join("/run/netns", h.netns), func() error {
			conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Second}, "tcp", address, settings)
			if err != nil {
				return err
			}
			defer conn.Close()
			serial = conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
			return nil
		})
		return serial == own.SerialNumber.String()
	}
	h.eventually("the nodes of host "+h.name+" show its new certificate", func() bool {
		st, ok := h.status()
		for _, n := range st.Nodes {
			switch {
			case n.Host != h.name || !ok:
			case n.Kind.Traits().Admin:
				ok = n.State == supervise.Up && shows(n.Address)
			case n.Kind == plan.Balancer:
				b := haproxy.NewClient(filepath.Join(h.state, "nodes", n.Name, "haproxy.sock"))
				serial, err := b.Certificate(h.t.Context(), filepath.Join(h.state, plan.CertificateFile))
				ok = err == nil && serial == fmt.Sprintf("%X", own.SerialNumber.Bytes())
			}
		}
		return ok
	})
}
