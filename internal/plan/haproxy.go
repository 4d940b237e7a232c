package plan

import (
	"encoding/base64"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/hostname"
	"holdfast/internal/stack"
	"holdfast/internal/token"
)

// chrootDir is the empty directory to which HAProxy confines itself (chroot) when it was started as
// root.
const chrootDir = "empty"

// ServerStates is the name of the file in which a balancer keeps what it knew of its servers across
// a reload. At other times it is empty.
const ServerStates = "servers.state"

// noStates is a ServerStates file without servers: only the version of its format.
const noStates = "1\n"

// RedisEntry is the name of the frontend that leads programs to the Redis master.
const RedisEntry = "redis.entry"

// The backends behind RedisEntry: for a master that takes writes, and for one that only takes
// reads.
const (
	RedisMasterBackend      = "redis.master"
	RedisMasterAloneBackend = "redis.master-alone"
)

// MasterSocket is the file name of the socket of a balancer's master process, through which all of
// its workers can be reached.
const MasterSocket = "master.sock"

// redisConnections is how many connections to the Redis master a balancer takes at once, besides
// those of the entry.
const redisConnections = 1000

// minHardStop is the shortest time that a stopping balancer gives its requests in flight.
const minHardStop = 5 * time.Second

// haproxyData is what haproxy.cfg.qtpl fills in.
type haproxyData struct {
	Stack, Node            string
	Maxconn, GlobalMaxconn int
	PerAddress             int    // connections of one client address; 0: a share of the free ones, see crowdShare
	PerAddressClosed       int    // number of connections from which on new ones are closed at once
	CrowdShare, CloseShare int    // see crowdShare
	SourceHeader           string // header that tells a web node the client's address, with Source in it; see SourceHeaderName
	Source                 string
	Threads                int // 0: HAProxy decides
	LogAll, LogPath        bool
	LogFormat              string
	HardStop               time.Duration
	Socket, User, Chroot   string
	ServerStates           string // path of the file ServerStates
	Retries                int
	Timeouts               stack.Timeouts
	Entry, Statistics      string
	TLS                    *clientTLS // of the entry; nil: without TLS
	Certificates           string     // directory of the certificates of all entries; empty: no entry has any
	Scheme                 string     // of the entry's URL: http or https
	Moves                  bool       // an address of the entry may move to another host
	StatisticsHere         bool       // the statistics page is only for clients on this machine
	TrustedProxies         []string
	ProxyProtocol          bool       // the trusted proxies name the client by the PROXY protocol
	Hosts                  string     // a regular expression of the host names that are served; empty: all
	OriginNames            string     // a regular expression; see originHeaders
	StrangeOriginNames     string     // the same for spellings that no proxy uses; see strangeOriginNames
	KV                     bool       // there is a backend of Holdfast's own web nodes
	Others                 bool       // there is a backend of another kind of application
	Limited                bool       // the servers of some application have a limit
	Errors                 ownAnswers // for requests that have not reached an application's backend
	Unknown                string     // the text for a request whose outcome is unknown
	DrillHeader            string
	Drills                 []drillData // the header's values and where they lead; see DrillHeader
	Routes                 []routeData
	Strips                 []stripData
	Limits                 stack.Limits
	Default                string // backend of the default route; a validated stack has one
	DefaultKV              bool   // whether Default is an application of kind kv
	Buffered               int    // the longest body, in bytes, that surely fits into a buffer
	Backends               []backendData
	TCP                    []tcpData
	Redis                  *redisMasterData
	Resolves               bool // the addresses of some servers come from DNS
}

type backendData struct {
	Name, What string
	Errors     ownAnswers
	KV         bool
	// Tracks is the backend whose health checks of the same servers also count here; it is set in
	// the direct backend of a kv (see direct).
	Tracks       string
	Sticky       string
	Cookie       bool
	Health       stack.Health
	FastInterval time.Duration
	ServerLimits string
	Limited      bool // the servers have a limit, so requests may wait for a place
	Retries      int  // replaces the stack's retries where Limited; 0: the stack's
	// MaxQueued is how many requests may wait for all of the servers together; 0: any number.
	MaxQueued int
	Servers   []serverData
	// DiscoveryName is the DNS name under which the servers' addresses are found, and Places is for
	// how many of them there is room. Where DiscoveryName is empty, the servers are those in
	// Servers.
	DiscoveryName     string
	Places            int
	DiscoveredUnheard time.Duration // as Unheard in serverData
	DiscoveredTLS     *serverTLS    // as TLS in serverData
	// Challenge is the key (base64) by which a server proves that it belongs to the stack. It is
	// empty where the server's certificate or its fixed address proves it.
	Challenge string
	// SendProxy sends the client's address ahead of each connection (PROXY protocol).
	SendProxy bool
	// Connect is how long connecting may take; 0: the stack's time. It is set where some of the
	// servers are on other hosts.
	Connect time.Duration
	// Own are the time-outs that differ from the stack's, 0 where they do not. Tunnel always holds
	// the time-out that applies.
	Own    stack.AppTimeouts
	Tunnel time.Duration
	// For a kv: how long a node may be silent in a usual request, and in a stream or long poll.
	ServerTimeout, StreamTimeout time.Duration
	QueueTimeout                 time.Duration // for a kv: how long a request may wait for a place
}

// BalancerSocket is the file name of a balancer's runtime socket, in its directory.
const BalancerSocket = "haproxy.sock"

// streamTimeout is how long streams and long polls may be silent: a stream sends a sign of life
// every 10 s, and a long poll waits up to a minute.
const streamTimeout = 90 * time.Second

// beyondHold is how much longer a web node may take for a request than it may hold it (kv.hold).
const beyondHold = 5 * time.Second

// maxQueued is how long a request for a web node may wait in a balancer. It is below the 20 s after
// which a web node turns a request down; the balancer tells the node in whole seconds when the
// request came.
const maxQueued = 15 * time.Second

// buffered is the length, in bytes, of a body that surely fits into HAProxy's buffer behind a usual
// head. The buffer has 16 KB, of which HAProxy keeps 1 KB free.
const buffered = 12 << 10

type serverData struct {
	Name, Address string
	Drained       bool // it gets no requests; see Facts.Drained
	TLS           *serverTLS
	// Unheard is how long data that was sent may stay without a sign of life from the server's host
	// before the connection is closed; 0: as long as the kernel waits.
	Unheard time.Duration
}

// entryTLS is where the balancer listens with TLS for programs of other hosts; nil: there are none.
type entryTLS struct {
	wire
	Listen string
}

// serverTLS is how a balancer speaks TLS with a server; nil: in plain.
type serverTLS struct {
	wire        // of the balancer
	Host string // the host whose certificate the server has to show
}

// tls returns how a balancer speaks TLS with a node; nil: in plain.
func (b builder) tls(balancer, n node) *serverTLS {
	if !b.encrypts() {
		return nil
	}
	return &serverTLS{b.wire(balancer), n.host.Name}
}

type tcpData struct {
	Name, Listen string
	List         string // path of the list of its certificates; empty: the entry has no TLS
	Backend      backendData
}

type redisMasterData struct {
	Name     string
	Listen   string // for programs of this host; where there is no TLS, for all
	TLS      *entryTLS
	Maxconn  int
	Replicas int
	Await    string        // path of the script that holds connections; see awaitMaster
	Inspect  time.Duration // how long the script may take
	Backends []redisBackendData
}

type redisBackendData struct {
	Name, Password, Expect, Comment string
	Writes                          bool // the checks demand a master that takes writes
	Servers                         []serverData
}

// hardStop returns how long a stopping balancer of the stack waits for requests in flight.
func (b builder) hardStop() time.Duration { return BalancerGrace(b.stack) }

// BalancerGrace returns how long a stopping balancer waits for requests in flight: the longest
// grace of any application. Servers that are found by DNS do not stop together with the balancer,
// so for those it waits as long as a request may take.
func BalancerGrace(s stack.Stack) time.Duration {
	longest := minHardStop
	for _, app := range s.Apps {
		longest = max(longest, app.Grace)
		if app.Discovery != nil {
			longest = max(longest, LongestRequest(s))
		}
	}
	return longest
}

// LongestRequest returns the longest time that a balancer waits for an answer of any application.
func LongestRequest(s stack.Stack) time.Duration {
	longest := s.Timeouts.Server
	for _, app := range s.Apps {
		longest = max(longest, serverTimeout(s, app))
	}
	return longest
}

// serverTimeout returns how long a balancer waits for an answer of an application's server. For a
// web node that includes the time for which the node holds a request while there is no Redis
// master.
func serverTimeout(s stack.Stack, app stack.App) time.Duration {
	if app.Kind() == stack.KV {
		return max(s.Timeouts.Server, app.KV.Hold+beyondHold)
	}
	return s.Timeouts.Of(app).Server
}

// hosts returns the host names that the stack file gives its entry, besides those that a service
// accepts by itself (package hostname).
func hosts(s stack.Stack) []string {
	names := slices.Clone(s.Entry.Hosts)
	for _, r := range s.Routes {
		names = append(names, r.Host...)
	}
	for _, app := range s.Apps {
		if name, _, _ := strings.Cut(app.Health.Host, ":"); name != "" && name[0] != '[' {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// hostPattern returns what the Host header of a request has to match if it is for a user's program,
// for files or for servers elsewhere; empty: anything. Where the entry requires a token for all
// applications no such check is needed, because a page of another site has no token. Web nodes
// check the header themselves, since clients can also reach them without the balancers.
func (b builder) hostPattern(n node) string {
	if !b.stack.Entry.OnLoopback() && b.stack.Entry.Auth == "" {
		return ""
	}
	own, err := hostname.New(slices.Concat(b.host(n).Names, hosts(b.stack))...)
	if err != nil || own == nil { // the stack's names were checked before
		return ""
	}
	return own.Pattern()
}

// logFormat returns the format of a balancer's log of requests. It is HAProxy's own format for HTTP
// (manual, section 8.2.3) except for the last field, so that programs that read HAProxy's logs can
// read these. The last field has the path without the query if path is true, and a dash otherwise.
func logFormat(path bool) string {
	shown := "-"
	if path {
		shown = "%HPO"
	}
	return `%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs "%HM ` + shown + ` %HV"`
}

// reloadStop returns how long the old worker may go on with its requests after a reload. It is long
// enough that no request is cut off for which the balancer would still wait.
func (b builder) reloadStop() time.Duration {
	return max(b.stack.Timeouts.HardStop, b.hardStop(), LongestRequest(b.stack))
}

// haproxy returns the data of a balancer's haproxy.cfg.
func (b builder) haproxy(n node) haproxyData {
	s := b.stack
	d := haproxyData{
		Stack: s.Name, Node: n.displayName(),
		Maxconn: b.entryConnections(n), GlobalMaxconn: b.entryConnections(n),
		Limits:     s.Entry.Limits,
		PerAddress: s.Entry.Limits.PerAddress, CrowdShare: crowdShare, CloseShare: closeShare,
		PerAddressClosed: s.Entry.Limits.PerAddress + s.Entry.Limits.PerAddress/8,
		SourceHeader:     SourceHeaderName, Source: b.facts.Secrets.Source,
		HardStop: b.reloadStop(),
		Socket:   b.path(n, BalancerSocket), ServerStates: b.path(n, ServerStates),
		User: b.host(n).HAProxyUser, Chroot: b.path(n, chrootDir),
		Buffered: buffered,
		Retries:  s.Retries, Timeouts: s.Timeouts,
		Entry: b.entryListen(), Statistics: s.Entry.Statistics,
		// Binding an address that is not there yet takes root. Without virtual addresses nothing
		// moves.
		Moves: s.Entry.Virtual.Enabled() && b.host(n).HAProxyUser != "" && b.host(n).SetsAddresses,
		// Tokens protect the applications, but HAProxy's statistics page asks for none.
		StatisticsHere: s.Entry.Auth == "",
		TrustedProxies: s.Entry.TrustedProxies, ProxyProtocol: s.Entry.ProxyProtocol,
		Hosts:       b.hostPattern(n),
		OriginNames: originNames(), StrangeOriginNames: strangeOriginNames(),
		LogAll: s.Entry.Log == "all", LogPath: s.Entry.LogPath, LogFormat: logFormat(s.Entry.LogPath),
		Unknown:     unknownWords,
		DrillHeader: DrillHeaderName,
	}

	d.Scheme, d.TLS = scheme(s.Entry), b.clientTLS(n, d)
	if len(s.CertificateEntries()) > 0 {
		d.Certificates = filepath.Join(b.host(n).StateDir, CertificatesDir)
	}
	if d.TLS != nil && d.TLS.Redirect != "" {
		d.GlobalMaxconn += redirectConnections
	}
	if cores := b.host(n).Cores; cores > 0 {
		balancers := len(ofKind(b.sameHostNodes(n), Balancer))
		d.Threads = (cores + balancers - 1) / balancers
	}
	b.routes(&d)

	layer4 := map[string]bool{}
	for i, t := range s.TCP {
		layer4[t.App] = true
		backend := b.backend(n, t.App, i)
		backend.Cookie = false
		d.TCP = append(d.TCP, tcpData{
			// The dot keeps these names apart from those of applications.
			Name: fmt.Sprintf("tcp.%d", i+1), Listen: bindAddress(t.Listen), List: b.tcpList(n, t), Backend: backend,
		})
		d.GlobalMaxconn += d.Maxconn // entry.limits, for each entry
	}

	for _, name := range s.AppNames() {
		if layer4[name] && !s.Routed(name) && s.Apps[name].Kind() != stack.KV {
			continue // it need not speak HTTP
		}
		backend := b.backend(n, name, httpEntry)
		d.KV, d.Limited = d.KV || backend.KV, d.Limited || backend.Limited
		d.Others = d.Others || !backend.KV
		d.Resolves = d.Resolves || backend.DiscoveryName != ""
		d.Backends = append(d.Backends, backend)
		if backend.KV {
			d.Backends = append(d.Backends, backend.direct())
		}
		if value := DrillHeader(s, b.facts.Secrets, name); value != "" {
			d.Drills = append(d.Drills, drillData{App: name, Value: value})
		}
	}
	d.Errors = answersFor(d.Node, stack.Command, false, s.Entry.Errors)
	if !d.Others {
		d.Errors = answersFor(d.Node, stack.KV, false, s.Entry.Errors)
	}
	if s.Redis.Enabled {
		d.Redis = b.redisMaster(n)
		d.GlobalMaxconn += d.Redis.Maxconn
	}
	return d
}

// backend returns the data of an application's servers in a balancer, for the HTTP entry
// (httpEntry) or for the layer 4 entry with that index.
func (b builder) backend(balancer node, name string, entry int) backendData {
	app := b.stack.Apps[name]
	d := backendData{
		Name: name, What: string(app.Kind()), KV: app.Kind() == stack.KV,
		Sticky: app.Sticky, Cookie: app.Sticky != "", Health: app.Health,
		FastInterval: fastInterval(app.Health), SendProxy: app.SendProxy,
		Own: app.Timeouts, Tunnel: b.stack.Timeouts.Of(app).Tunnel,
	}

	switch app.Kind() {
	case stack.KV:
		d.What = "Holdfast's web nodes"
		d.ServerTimeout = serverTimeout(b.stack, app)
		d.StreamTimeout = max(d.ServerTimeout, streamTimeout)
		d.QueueTimeout = min(b.stack.Timeouts.Queue, app.KV.Hold+beyondHold, maxQueued)
	case stack.Files:
		d.What = "static files"
	case stack.Command:
		d.What = "the user's own program"
	case stack.Servers:
		d.What = "servers that run elsewhere"
	case stack.Image:
		d.What = "containers of " + app.Image
		if app.Discovery != nil { // a new image is no reason for another configuration
			d.What = "pods of an image of the user's own"
		}
	}
	if app.Kind().Elsewhere() && app.Discovery == nil {
		for i, address := range slices.Concat(app.Servers, app.At) {
			server := serverData{Name: name + "-" + strconv.Itoa(i+1), Address: address}
			if app.Kind() == stack.Image {
				server.Unheard = unheardProgram // a container that is gone does not close its connections
			}
			d.Servers = append(d.Servers, server)
		}
		// A name that does not resolve disables its server, instead of keeping HAProxy from
		// starting.
		d.ServerLimits += " init-addr libc,none"
	}

	if app.Discovery != nil {
		d.DiscoveryName, d.Places = app.Discovery.At, MaxDiscovered
		d.DiscoveredUnheard, d.Connect = unheardWeb, min(b.stack.Timeouts.Connect, connectLimit)
		switch {
		case app.Kind() == stack.Image: // nothing can prove that it belongs to the stack
			d.DiscoveredUnheard = unheardProgram
		case b.encrypts():
			d.DiscoveredTLS = &serverTLS{b.wire(balancer), podWebNode(name)}
		default:
			d.Challenge = base64.StdEncoding.EncodeToString(token.ChallengeKey(b.facts.Secrets.Source))
		}
	}
	for _, n := range b.nodes {
		if n.kind == Web && n.app == name && app.Discovery == nil {
			d.Servers = append(d.Servers, b.server(balancer, n))
		}
	}

	if slices.ContainsFunc(d.Servers, func(s serverData) bool { return s.Unheard > 0 }) {
		d.Connect = min(b.stack.Timeouts.Connect, connectLimit)
	}
	b.limit(&d, balancer, name, entry)
	d.Errors = answersFor(balancer.displayName(), app.Kind(), d.Limited, b.stack.Entry.Errors)
	return d
}

// direct returns the backend to the same servers for requests that do not wait for a place.
func (d backendData) direct() backendData {
	if d.DiscoveryName == "" { // with DNS, each backend finds the servers in an order of its own
		d.Tracks = d.Name
	}
	d.Name += ".direct"
	d.What = "for what waits for no place"
	d.ServerLimits, d.Limited, d.MaxQueued, d.Retries = "", false, 0, 0
	d.Errors = answersFor(d.Errors.Node, stack.KV, false, d.Errors.Pages)
	return d
}

// MaxDiscovered is for how many nodes of an application the balancers have room where DNS tells
// their addresses. It is generous because an autoscaler adds nodes without a new configuration.
const MaxDiscovered = 50

// fastInterval returns the time between two checks of a server that is down or in doubt. It is not
// below 100 ms unless Interval is: more frequent checks would only be a burden.
func fastInterval(h stack.Health) time.Duration {
	return min(h.Interval, max(h.Interval/4, 100*time.Millisecond))
}

// CheckedWithin returns how long it may take until the balancers send requests to a node that has
// become ready, of any application: the time for the checks that have to pass.
func CheckedWithin(s stack.Stack) time.Duration {
	var longest time.Duration
	for _, app := range s.Apps {
		rise := time.Duration(app.Health.Rise) * fastInterval(app.Health)
		longest = max(longest, rise+checkTimeout(s, app))
	}
	return longest
}

// checkTimeout returns how long a balancer waits for the answer to a health check, including the
// time to connect (HAProxy manual, "timeout check").
func checkTimeout(s stack.Stack, app stack.App) time.Duration {
	return min(s.Timeouts.Connect, app.Health.Interval) + s.Timeouts.Check
}

// redisMaster returns the data of the port that always leads to the master.
func (b builder) redisMaster(n node) *redisMasterData {
	port := strconv.Itoa(b.facts.Ports[PortRedisMaster])
	d := &redisMasterData{
		Name: RedisEntry, Listen: b.masterListen(n),
		Maxconn: redisConnections, Replicas: b.stack.Redis.Replicas,
		Await: b.path(n, awaitMasterFile), Inspect: awaitMasterLimit + time.Second,
	}

	if b.encrypts() {
		if b.calledFromElsewhere(n.host) {
			d.TLS = &entryTLS{b.wire(n), net.JoinHostPort(n.host.Address, port)}
		}
		d.Listen = net.JoinHostPort(loopback, port)
	}
	var servers []serverData
	for _, r := range ofKind(b.nodes, Redis) {
		servers = append(servers, serverData{Name: r.name, Address: b.address(r), TLS: b.tls(n, r)})
	}

	password := b.facts.Secrets.Balancer
	any := redisBackendData{
		Name: RedisMasterBackend, Password: password, Servers: servers,
		Expect: "string role:master", Comment: "master",
	}
	d.Backends = []redisBackendData{any}
	if d.Replicas > 0 {
		with := any
		with.Expect, with.Comment = `rstring "role:master\r\nconnected_slaves:[1-9]"`, "master-with-replicas"
		with.Writes = true
		any.Name = RedisMasterAloneBackend
		d.Backends = []redisBackendData{with, any}
	}
	return d
}

// bindAddress returns an address in the form of HAProxy's bind.
func bindAddress(listen string) string {
	h, port, err := net.SplitHostPort(listen)
	if err == nil && (h == "" || h == "*") {
		return "*:" + port
	}
	return listen
}

// entryListen returns where a balancer listens for clients. Where a stack with hosts listens at
// every address of a host, the loopback address gets a socket of its own as well: a stack that used
// to listen only there keeps its socket when it gets several hosts.
func (b builder) entryListen() string {
	listen := bindAddress(b.stack.Entry.Listen)
	h, port, err := net.SplitHostPort(listen)
	if err != nil || len(b.stack.Hosts) == 0 || b.stack.OneMachine() {
		return listen
	}
	switch h {
	case "*", "0.0.0.0":
		return listen + "," + net.JoinHostPort("127.0.0.1", port)
	case "::":
		return listen + "," + net.JoinHostPort("::1", port)
	}
	return listen
}
