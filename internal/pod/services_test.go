package pod

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/isolate/dnstest"
	"holdfast/internal/plan"
)

// named is a Services that asks a name server of the test.
type named struct {
	*Services
	dns *dnstest.Server
	log *logText
}

// logText is a log whose text a test can read. It is safe for concurrent use.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func nameOf(node string) string { return "shop-" + node + ".test" }

// newNamed returns the Services of three nodes, which DNS knows, with this dnsPatience.
func newNamed(t *testing.T, patience time.Duration) *named {
	t.Helper()
	n := &named{dns: dnstest.Start(t), log: &logText{}}
	n.Services = &Services{
		StateDir: t.TempDir(), Names: map[string]string{}, Lookup: n.dns.Resolver().LookupHost,
		Log: slog.New(slog.NewTextHandler(n.log, nil)), Waiting: func(string) {}, patience: patience,
	}
	for i, node := range []string{"redis-1", "redis-2", "sentinel-1"} {
		n.Names[node] = nameOf(node)
		n.dns.Set(nameOf(node), fmt.Sprintf("10.0.0.%d", i+1))
	}
	return n
}

// find calls Find, and fails the test if the addresses are not found.
func (n *named) find(t *testing.T) DiscoveredServices {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	found, err := n.Find(ctx)
	if err != nil {
		t.Fatalf("%v; log:\n%s", err, n.log)
	}
	return found
}

// waits fails the test if the addresses are found within a second.
func (n *named) waits(t *testing.T, while string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if found, err := n.Find(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: %+v, %v", while, found, err)
	}
}

func TestAddressesAreThoseOfBeforeWhileDNSIsAway(t *testing.T) {
	want := map[string]string{"redis-1": "10.0.0.1", "redis-2": "10.0.0.2", "sentinel-1": "10.0.0.3"}
	for how, name := range map[dnstest.How]string{dnstest.Silent: "silent", dnstest.Failing: "failing"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNamed(t, 0)
			if found := n.find(t); !maps.Equal(found.Addresses, want) || len(found.FromCache) > 0 {
				t.Fatalf("DNS is well: %+v", found)
			}
			n.dns.Be(how)
			began := time.Now()
			found := n.find(t)
			if !maps.Equal(found.Addresses, want) || !slices.Equal(found.FromCache, []string{"redis-1", "redis-2", "sentinel-1"}) {
				t.Errorf("DNS is %s: %+v", name, found)
			}
			if took := time.Since(began); took < dnsPatience || took > 2*dnsPatience {
				t.Errorf("it took %v", took)
			}
			if said := n.log.String(); !strings.Contains(said, "DNS does not answer") || !strings.Contains(said, "redis-1, redis-2, sentinel-1") {
				t.Errorf("the log says %s", said)
			}
		})
	}
}

func TestOnlyWhatDNSSaysNothingOfIsAsBefore(t *testing.T) {
	n := newNamed(t, time.Millisecond)
	n.find(t)

	// A new volume has no earlier addresses.
	empty := newNamed(t, time.Millisecond)
	empty.dns.Be(dnstest.Silent)
	empty.waits(t, "nothing is known of before")

	// "No such name" is an answer: the Service was deleted.
	n.dns.Set(nameOf("redis-2"))
	n.waits(t, "the Service of redis-2 is gone")
	n.dns.Be(dnstest.KnowsNothing)
	n.waits(t, "all Services are gone")

	// An earlier address is not used for a name of another namespace, to which the volume was
	// moved.
	n.dns.Be(dnstest.Failing)
	n.Names["redis-2"] = "shop-redis-2.other.test"
	n.waits(t, "the volume is in another namespace")
}

func TestTheNewestAddressesAreKept(t *testing.T) {
	n := newNamed(t, time.Millisecond)
	n.find(t)
	n.dns.Set(nameOf("redis-2"), "10.0.0.22")
	n.find(t)
	n.dns.Be(dnstest.Failing)
	if got := n.find(t).Addresses["redis-2"]; got != "10.0.0.22" {
		t.Errorf("redis-2 was at %s last", got)
	}
	addresses, all := n.Cached()
	if !all || addresses["redis-2"] != "10.0.0.22" {
		t.Errorf("before: %v, all %t", addresses, all)
	}
	n.Names["redis-3"] = nameOf("redis-3")
	if _, all := n.Cached(); all {
		t.Error("redis-3 has never been there")
	}
}

func TestADamagedFileOfAddressesIsLikeNone(t *testing.T) {
	for _, text := range []string{"", "nonsense", `{"shop-redis-1.test":"10.0.0.300"}`, `["10.0.0.1"]`} {
		n := newNamed(t, time.Millisecond)
		if err := os.WriteFile(filepath.Join(n.StateDir, ServicesFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, all := n.Cached(); all {
			t.Errorf("%q: all is known", text)
		}
		n.find(t)
		if _, all := n.Cached(); !all {
			t.Errorf("%q: it is not replaced; log: %s", text, n.log)
		}
	}
}

// somebody serves connections at the pods' port of an address of this machine.
func somebody(t *testing.T, address string, serve func(net.Conn)) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(plan.PodPort)))
	if err != nil {
		t.Skipf("the pods' port is not free here: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
}

func TestAnAddressOfBeforeThatIsAnothersIsNotTaken(t *testing.T) {
	ours, other := authorityOf(t, 'a'), authorityOf(t, 'b')
	own := identityOf(t, t.TempDir(), ours, "sentinel-1", time.Hour)
	as := func(settings *tls.Config) func(net.Conn) {
		return func(conn net.Conn) {
			defer conn.Close()
			_ = tls.Server(conn, settings).Handshake()
			time.Sleep(100 * time.Millisecond)
		}
	}

	for i, c := range []struct {
		who   string
		serve func(net.Conn)
		taken bool
	}{
		{"the pod itself", as(identityOf(t, t.TempDir(), ours, "redis-1", time.Hour).Server()), true},
		{"a pod that is not ready to show who it is", func(conn net.Conn) { conn.Close() }, true},
		{"nobody", nil, true},
		{"another pod of the stack", as(identityOf(t, t.TempDir(), ours, "redis-2", time.Hour).Server()), false},
		{"a pod of another stack", as(identityOf(t, t.TempDir(), other, "redis-1", time.Hour).Server()), false},
		{"a server in plain", func(conn net.Conn) { fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\n\r\n"); conn.Close() }, false},
	} {
		t.Run(c.who, func(t *testing.T) {
			n := newNamed(t, time.Millisecond)
			address := fmt.Sprintf("127.0.77.%d", i+1)
			n.dns.Set(nameOf("redis-1"), address)
			n.dns.Set(nameOf("redis-2"), "127.0.77.99")
			n.dns.Set(nameOf("sentinel-1"), "127.0.77.98")
			n.find(t)
			n.dns.Be(dnstest.Failing)
			if c.serve != nil {
				somebody(t, address, c.serve)
			}

			found := n.find(t)
			if distrusted := n.Distrust(t.Context(), found, own.Client); distrusted == c.taken {
				t.Fatalf("distrusted %t; log: %s", distrusted, n.log)
			}
			if c.taken {
				return
			}
			if !strings.Contains(n.log.String(), "another's now") {
				t.Errorf("the log says %s", n.log)
			}

			n.waits(t, "another one has the address")
			n.dns.Be(dnstest.Well)
			n.dns.Set(nameOf("redis-1"), "127.0.77.97")
			if got := n.find(t); got.Addresses["redis-1"] != "127.0.77.97" || len(got.FromCache) > 0 {
				t.Errorf("DNS is back: %+v", got)
			}
		})
	}
}

func TestAPodBeginsAnewWhereAServiceHasMoved(t *testing.T) {
	watch := func(n *named, found DiscoveredServices, own string) <-chan *Moved {
		moved := make(chan *Moved, 1)
		ctx, end := context.WithCancel(t.Context())
		t.Cleanup(end)
		go func() { moved <- n.Watch(ctx, found, own, 1) }()
		return moved
	}
	await := func(n *named, moved <-chan *Moved, want Moved) {
		t.Helper()
		select {
		case m := <-moved:
			if m == nil || *m != want {
				t.Errorf("moved %+v, want %+v", m, want)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("nothing has moved; log: %s", n.log)
		}
	}
	n := newNamed(t, time.Millisecond)
	n.every = 100 * time.Millisecond
	n.find(t)
	n.dns.Be(dnstest.Failing)
	found := n.find(t) // the pod starts while DNS does not answer
	own, other := watch(n, found, "redis-2"), watch(n, found, "redis-1")
	select {
	case m := <-own:
		t.Fatalf("DNS is away, and moved is %+v", m)
	case <-time.After(500 * time.Millisecond):
	}
	n.dns.Set(nameOf("redis-2"), "10.0.0.22")
	n.dns.Be(dnstest.Well)
	want := Moved{"redis-2", "10.0.0.2", "10.0.0.22"}
	await(n, own, want)
	await(n, other, want)
	if got := n.find(t).Addresses["redis-2"]; got != "10.0.0.22" {
		t.Errorf("it begins anew with %s", got)
	}

	// If nothing has moved, the log says so.
	n.dns.Be(dnstest.Failing)
	still := watch(n, n.find(t), "redis-2")
	n.dns.Be(dnstest.Well)
	if !clock.Within(20*time.Second, 10*time.Millisecond, func() bool { return strings.Contains(n.log.String(), "DNS answers again") }) {
		t.Fatalf("the log says %s", n.log)
	}
	select {
	case m := <-still:
		t.Errorf("moved %+v", m)
	case <-time.After(300 * time.Millisecond):
	}
}
