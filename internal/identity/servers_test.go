package identity

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

// program returns the path of a program that the test needs.
func program(t testing.TB, name string) string {
	t.Helper()
	for _, at := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(at); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not there; scripts/setup installs it", name)
	return ""
}

// run runs a program until the test ends. Its output is shown when the test has failed.
func run(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program(t, name), args...)
	out := &safeLog{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ok(t, cmd.Start())
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", name, out)
		}
	})
	return cmd
}

// realHost is a host of a stack with its files in the form that Redis and HAProxy read.
type realHost struct {
	*Keeper
	dir *Dir
}

func newRealHost(t testing.TB, a *Authority, name string) realHost {
	t.Helper()
	c := newHost(t, a, name, time.Now())
	dir := must[*Dir](t)(OpenDir(filepath.Join(t.TempDir(), name)))
	must[[]string](t)(dir.Save(c))
	k := must[*Keeper](t)(NewKeeper(dir, sameMember(a, time.Now, c.Peer(), DefaultLife), time.Now))
	return realHost{k, dir}
}

// redisConf returns the configuration with which a Redis or Sentinel of a host accepts only TLS.
func (h realHost) redisConf(port int, dir string) string {
	return fmt.Sprintf(`bind 127.0.0.1
port 0
tls-port %d
tls-ca-cert-file %s
tls-cert-file %s
tls-key-file %[3]s
tls-auth-clients yes
tls-replication yes
tls-protocols TLSv1.3
dir %s
`, port, h.dir.TrustFile(), h.dir.HostFile(), dir)
}

// startRedis runs a Redis of a host, or a Sentinel, and returns its address.
func (h realHost) startRedis(t testing.TB, conf string, args ...string) string {
	t.Helper()
	port := redistest.FreePort(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "redis.conf")
	ok(t, os.WriteFile(path, []byte(h.redisConf(port, dir)+conf), 0o600))
	run(t, "redis-server", append([]string{path}, args...)...)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// redisConn is a connection to Redis, with or without TLS.
type redisConn struct {
	net.Conn
	r *bufio.Reader
}

func newRedisConn(conn net.Conn) *redisConn { return &redisConn{conn, bufio.NewReader(conn)} }

// do sends a command and returns the reply as text. The words of the command must not contain
// spaces.
func (c *redisConn) do(command string) (string, error) {
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, command+"\r\n"); err != nil {
		return "", err
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	if size, err := strconv.Atoi(strings.TrimPrefix(line, "$")); err == nil && line[0] == '$' && size >= 0 {
		text := make([]byte, size+2)
		_, err := io.ReadFull(c.r, text)
		return string(text[:size]), err
	}
	return line, nil
}

func (c *redisConn) must(t testing.TB, command string) string {
	t.Helper()
	return must[string](t)(c.do(command))
}

// dialRedis connects to a Redis of a host, and checks the host's name.
func dialRedis(t testing.TB, trust *Trust, own Certificates, host, address string) *redisConn {
	t.Helper()
	var conn *tls.Conn
	eventually(t, "Redis of host "+host+" accepts connections", func() (up bool) {
		var err error
		conn, err = tls.Dial("tcp", address, trust.Client(own, host))
		return err == nil
	})
	t.Cleanup(func() { conn.Close() })
	c := newRedisConn(conn)
	eventually(t, "Redis of host "+host+" answers", func() bool {
		reply, err := c.do("PING")
		return err == nil && reply == "+PONG"
	})
	return c
}

// shownSerial returns the serial number of the server's certificate on a connection.
func shownSerial(c *redisConn) string {
	return serial(c.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0])
}

func field(info, name string) string {
	_, rest, _ := strings.Cut(info, name+":")
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

func TestRedisAndSentinelTakeTheCertificatesAndRenewedOnesWhileTheyRun(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", time.Now())
	trust := newTrust(t, a, nil, time.Now)
	one, two, three := newRealHost(t, a, "one"), newRealHost(t, a, "two"), newRealHost(t, a, "three")

	masterAt := one.startRedis(t, "save \"\"\nrepl-diskless-sync-delay 0\n")
	master := dialRedis(t, trust, three, "one", masterAt)
	replicaAt := two.startRedis(t, "save \"\"\nreplicaof "+strings.Replace(masterAt, ":", " ", 1)+"\n")
	replica := dialRedis(t, trust, three, "two", replicaAt)
	linked := func() bool { return field(replica.must(t, "INFO replication"), "master_link_status") == "up" }
	eventually(t, "the replica follows its master by TLS", linked)
	sentinelAt := three.startRedis(t, "sentinel monitor test "+strings.Replace(masterAt, ":", " ", 1)+" 1\n", "--sentinel")
	sentinel := dialRedis(t, trust, one, "three", sentinelAt)
	eventually(t, "the Sentinel finds the replica by TLS", func() bool {
		return strings.Contains(sentinel.must(t, "INFO sentinel"), "status=ok,address="+masterAt+",slaves=1")
	})

	// A client without a certificate of this stack is refused.
	stranger := newHost(t, newAuthority(t, "shop", time.Now()), "two", time.Now())
	for name, own := range map[string]Certificates{"no certificate": fixed{&tls.Certificate{}}, "another authority's": fixed{stranger.tls()}} {
		if conn, err := tls.Dial("tcp", masterAt, trust.Client(own, "one")); err == nil {
			if reply, err := newRedisConn(conn).do("PING"); err == nil {
				t.Errorf("with %s Redis answers %q", name, reply)
			}
			conn.Close()
		}
	}
	if _, err := tls.Dial("tcp", masterAt, trust.Client(three, "two")); ReasonOf(trust.Explain(err, "host two")) != OtherHost {
		t.Errorf("Redis of host one is taken for host two's: %v", err)
	}

	// Both hosts renew their certificates. Open connections go on: the replication, and one of
	// a client that has sent half a command.
	links := func() string {
		return field(master.must(t, "INFO stats"), "sync_full") + " " + field(master.must(t, "INFO stats"), "sync_partial_ok")
	}
	linksBefore, serialBefore := links(), shownSerial(master)
	open := dialRedis(t, trust, three, "one", masterAt)
	must[int](t)(io.WriteString(open, "PI"))
	for _, h := range []struct {
		realHost
		conn *redisConn
	}{{one, master}, {two, replica}} {
		changed := must[[]string](t)(h.Renew(t.Context()))
		if len(changed) != 1 || changed[0] != h.dir.HostFile() {
			t.Errorf("changed are %v", changed)
		}
		set := fmt.Sprintf("CONFIG SET tls-cert-file %s tls-key-file %[1]s tls-ca-cert-file %s", h.dir.HostFile(), h.dir.TrustFile())
		if reply := h.conn.must(t, set); reply != "+OK" {
			t.Errorf("CONFIG SET: %s", reply)
		}
	}
	if reply, err := open.do("NG"); err != nil || reply != "+PONG" {
		t.Errorf("the open connection: %q, %v", reply, err)
	}
	if reply := master.must(t, "SET key after"); reply != "+OK" {
		t.Error(reply)
	}
	eventually(t, "the replication goes on", func() bool { return replica.must(t, "GET key") == "after" })
	if got := links(); !linked() || got != linksBefore {
		t.Errorf("the replication was set up anew: %s, and was %s", got, linksBefore)
	}
	fresh := dialRedis(t, trust, three, "one", masterAt)
	if got := shownSerial(fresh); got != serial(one.Credentials().Certificate) || got == serialBefore {
		t.Errorf("a new connection is shown %s", got)
	}

	// Redis refuses a torn file, and goes on with the certificate that it has.
	torn := filepath.Join(t.TempDir(), "torn.pem")
	ok(t, os.WriteFile(torn, must[[]byte](t)(os.ReadFile(one.dir.HostFile()))[:300], 0o600))
	if reply := master.must(t, "CONFIG SET tls-cert-file "+torn+" tls-key-file "+torn); !strings.HasPrefix(reply, "-ERR") {
		t.Errorf("half a file: %s", reply)
	}
	dialRedis(t, trust, three, "one", masterAt)

	// Sentinel 7.0 has no such command. It goes on with its old certificate, which is still
	// valid, until it is restarted.
	if reply := sentinel.must(t, "CONFIG SET tls-cert-file "+three.dir.HostFile()); !strings.HasPrefix(reply, "-ERR") {
		t.Errorf("Sentinel takes CONFIG SET: %s; then it need not be started anew", reply)
	}
	before := serial(three.Credentials().Certificate)
	must[[]string](t)(three.Renew(t.Context()))
	if got := shownSerial(dialRedis(t, trust, one, "three", sentinelAt)); got != before {
		t.Errorf("the Sentinel shows %s", got)
	}
}

// haproxy runs HAProxy with these sections and returns the path of its runtime socket.
func haproxy(t testing.TB, sections string) string {
	t.Helper()
	dir := must[string](t)(os.MkdirTemp("", "haproxy-")) // the path of t.TempDir is too long for a socket
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, path := filepath.Join(dir, "admin.sock"), filepath.Join(dir, "haproxy.cfg")
	ok(t, os.WriteFile(path, []byte(`global
    stats socket `+socket+` mode 600 level admin
defaults
    timeout connect 2s
    timeout client 30s
    timeout server 30s
`+sections), 0o600))
	if out, err := exec.Command(program(t, "haproxy"), "-c", "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("haproxy -c: %s", out)
	}
	run(t, "haproxy", "-db", "-f", path)
	eventually(t, "HAProxy runs", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return socket
}

// tell sends a command to HAProxy's runtime socket.
func tell(t testing.TB, socket, command string) string {
	t.Helper()
	conn := must[net.Conn](t)(net.Dial("unix", socket))
	defer conn.Close()
	must[int](t)(io.WriteString(conn, command+"\n"))
	return string(must[[]byte](t)(io.ReadAll(conn)))
}

func TestHAProxyTakesTheCertificatesAsAClientAndAsAServer(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", time.Now())
	trust := newTrust(t, a, nil, time.Now)
	one, two := newRealHost(t, a, "one"), newRealHost(t, a, "two")
	redisAt := one.startRedis(t, "save \"\"\n")
	dialRedis(t, trust, two, "one", redisAt)

	// A web node behind mutual TLS. It answers with its client's name and serial number.
	web := serve(t, trust.Server(one), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if peer, err := trust.Peer(r); err == nil {
			io.WriteString(w, peer.String()+" "+peer.Serial)
		}
	}), io.Discard)
	stranger := newRealHost(t, newAuthority(t, "shop", time.Now()), "one")

	entries := map[string]string{}
	listen := func(name string) string {
		entries[name] = net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t)))
		return entries[name]
	}
	tlsTo := func(h realHost, host string) string {
		return fmt.Sprintf("ssl verify required verifyhost %s ca-file %s crt %s ssl-min-ver TLSv1.3", host, h.dir.TrustFile(), h.dir.HostFile())
	}

	socket := haproxy(t, fmt.Sprintf(`
listen redis
    mode tcp
    bind %s
    server redis-1 %s %s
listen web
    mode http
    bind %s
    server web-1 %s %s
listen other-host
    mode http
    retries 0
    bind %s
    server web-1 %s %s
listen other-stack
    mode http
    retries 0
    bind %s
    server web-1 %s %s
listen tls
    mode http
    bind %s ssl crt %s ca-file %s verify required ssl-min-ver TLSv1.3
    http-request return status 200 content-type text/plain string "host two"
`,
		listen("redis"), redisAt, tlsTo(two, "one"),
		listen("web"), web, tlsTo(two, "one"),
		listen("other host"), web, tlsTo(two, "three"),
		listen("other stack"), web, tlsTo(stranger, "one"),
		listen("tls"), two.dir.HostFile(), two.dir.TrustFile()))

	get := func(client *http.Client, url string) string {
		resp, err := client.Get(url)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", string(text))
	}
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	shown := func() string { return "200 host two " + serial(two.Credentials().Certificate) }

	conn := newRedisConn(must[net.Conn](t)(net.Dial("tcp", entries["redis"])))
	defer conn.Close()
	if reply, err := conn.do("PING"); err != nil || reply != "+PONG" {
		t.Errorf("Redis behind HAProxy: %q, %v", reply, err)
	}
	if got := get(fresh, "http://"+entries["web"]); got != shown() {
		t.Errorf("a web node behind HAProxy: %s, want %s", got, shown())
	}
	for _, name := range []string{"other host", "other stack"} {
		if got := get(fresh, "http://"+entries[name]); !strings.HasPrefix(got, "503") {
			t.Errorf("%s: %s", name, got)
		}
	}
	asServer, closeAll := clientOf(trust.Client(one, "two"))
	defer closeAll()
	if got := get(asServer, "https://"+entries["tls"]); got != "200 host two" {
		t.Errorf("HAProxy as a server: %s", got)
	}
	asOther, closeOther := clientOf(trust.Client(fixed{stranger.Credentials().tls()}, "two"))
	defer closeOther()
	if got := get(asOther, "https://"+entries["tls"]); strings.HasPrefix(got, "200") {
		t.Errorf("HAProxy as a server, for another stack: %s", got)
	}

	// The certificate is renewed without a reload. The open connection goes on, and new ones
	// show the new certificate.
	before := shown()
	must[[]string](t)(two.Renew(t.Context()))
	file := two.dir.HostFile()
	if said := tell(t, socket, "set ssl cert "+file+" <<\n"+string(must[[]byte](t)(os.ReadFile(file)))); !strings.Contains(said, "ransaction") {
		t.Errorf("set ssl cert: %s", said)
	}
	if said := tell(t, socket, "commit ssl cert "+file); !strings.Contains(said, "Success") {
		t.Errorf("commit ssl cert: %s", said)
	}
	if reply, err := conn.do("PING"); err != nil || reply != "+PONG" {
		t.Errorf("the open connection: %q, %v", reply, err)
	}
	// Idle connections that HAProxy keeps to the node go on with the old certificate.
	eventually(t, "new connections show the new certificate", func() bool {
		got := get(fresh, "http://"+entries["web"])
		if got != shown() && got != before {
			t.Fatalf("after the renewal: %s", got)
		}
		return got == shown()
	})
	if got := get(asServer, "https://"+entries["tls"]); got != "200 host two" {
		t.Errorf("HAProxy as a server, on an open connection: %s", got)
	}
	anew := must[*tls.Conn](t)(tls.Dial("tcp", entries["tls"], trust.Client(one, "two")))
	defer anew.Close()
	if got := serial(anew.ConnectionState().PeerCertificates[0]); got != serial(two.Credentials().Certificate) {
		t.Errorf("HAProxy as a server shows %s", got)
	}
}
