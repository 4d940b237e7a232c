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

// chrootDir is the empty directory that HAProxy locks itself in when it was
// started as root.
const chrootDir = "empty"

// ServerStates is the name of a balancer's file of what it knew of its servers. It is
// empty but for a reload.
const ServerStates = "servers.state"

// noStates is such a file without any: the version of its format.
const noStates = "1\n"

// RedisEntry is the name of the frontend that leads programs to the Redis master.
const RedisEntry = "redis.entry"

// The backends behind it: of a master that takes writes, and of one that can only be read.
const (
	RedisMasterBackend      = "redis.master"
	RedisMasterAloneBackend = "redis.master-alone"
)

// MasterSocket is the file name of the socket of a balancer's master process, which leads
// to all of its workers.
const MasterSocket = "master.sock"

// redisConnections is how many connections at once a balancer takes to the
// Redis master, beside those of the entry.
const redisConnections = 1000

// minHardStop is the least time that a balancer's requests in flight get when
// it stops.
const minHardStop = 5 * time.Second

// haproxyData is what haproxy.cfg.qtpl shows.
type haproxyData struct {
	Stack, Node            string
	Maxconn, GlobalMaxconn int
	PerAddress             int    // connections of one client address; 0: by the shares
	PerAddressClosed       int    // from how many on they are closed at once
	CrowdShare, CloseShare int    // see crowdShare
	SourceHeader           string // what tells a web node the client's address; see SourceValue
	Source                 string
	Threads                int // 0: HAProxy decides
	LogAll, LogPath        bool
	LogFormat              string
	HardStop               time.Duration
	Socket, User, Chroot   string
	ServerStates           string // path
	Retries                int
	Timeouts               stack.Timeouts
	Entry, Statistics      string
	TLS                    *clientTLS // of the entry
	Certificates           string     // directory of those that any entry shows; empty: none does
	Scheme                 string     // by which clients come: http or https
	Moves                  bool       // an address of the entry may move to another host
	StatisticsHere         bool       // only for clients on this machine
	TrustedProxies         []string
	ProxyProtocol          bool       // they tell whose a connection is
	Hosts                  string     // a regular expression of those that are answered to; empty: all
	OriginNames            string     // a regular expression; see originHeaders
	StrangeOriginNames     string     // likewise
	KV                     bool       // any backend of Holdfast's own web nodes
	Others                 bool       // any backend of other applications
	Limited                bool       // any application's servers have a limit
	Errors                 ownAnswers // to requests that have no application yet
	Unknown                string     // the words of an outcome that nobody knows
	DrillHeader            string
	Drills                 []drillData // what of it leads where; see DrillHeader
	Routes                 []routeData
	Strips                 []stripData
	Limits                 stack.Limits
	Default                string // backend; a validated stack has one
	DefaultKV              bool   // whether that is one of KV
	Buffered               int    // the longest body, in bytes, that surely fits into a buffer
	Backends               []backendData
	TCP                    []tcpData
	Redis                  *redisMasterData
	Resolves               bool // DNS tells the addresses of servers
}

type backendData struct {
	Name, What string
	Errors     ownAnswers
	KV         bool
	// Tracks is the backend whose servers these are, too, in a KV's backend
	// for what waits for no place.
	Tracks       string
	Sticky       string
	Cookie       bool
	Health       stack.Health
	FastInterval time.Duration
	ServerLimits string
	Limited      bool // the servers have a limit, so that requests may wait
	Retries      int  // of Limited, where it is not the stack's; 0: it is
	// MaxQueued is how many requests may wait for the servers, all together;
	// 0: any number.
	MaxQueued int
	Servers   []serverData
	// Found is where DNS tells the servers' addresses, and Places for how many of them there
	// is room; empty: they are Servers.
	Found        string
	Places       int
	FoundUnheard time.Duration // as in serverData
	FoundTLS     *serverTLS    // likewise
	// Challenge is the key by which a server shows that it is of the stack (base64); empty:
	// its certificate does, or its address.
	Challenge string
	// SendProxy has a server be told first whose each connection is.
	SendProxy bool
	// Connect is how long it may take to connect, where that is not the stack's time: some of
	// the servers are on other hosts.
	Connect time.Duration
	// Own are the time-outs that differ from the stack's; 0: they do not. Tunnel is the one
	// that it has.
	Own    stack.AppTimeouts
	Tunnel time.Duration
	// Of a KV: how long a node may be silent, and in a stream or long poll.
	ServerTimeout, StreamTimeout time.Duration
	QueueTimeout                 time.Duration // of a KV: how long a request may wait for a place
}

// BalancerSocket is a balancer's runtime socket, in its directory.
const BalancerSocket = "haproxy.sock"

// How long streams and long polls may be silent: a stream shows every 10 s that
// it lives, a long poll waits up to a minute.
const streamTimeout = 90 * time.Second

// beyondHold is what a web node may take for a request beyond the time that it
// holds it.
const beyondHold = 5 * time.Second

// maxQueued is how long a request for a web node may wait in a balancer at most:
// the node turns down what a balancer got more than 20 s ago, and the balancer
// says so by the second.
const maxQueued = 15 * time.Second

// buffered is how long a body is, in bytes, that surely fits into HAProxy's
// buffer (16 KB, of which it keeps 1 KB free) with a usual head before it.
const buffered = 12 << 10

type serverData struct {
	Name, Address string
	Drained       bool // it gets no requests; see Facts.Drained
	TLS           *serverTLS
	// Unheard is how long a connection may be without a sign of life from the server's host
	// when something was sent on it; 0: as long as the kernel has patience.
	Unheard time.Duration
}

// entryTLS is where the balancer listens for programs of other hosts, with TLS; nil: there
// are none.
type entryTLS struct {
	wire
	Listen string
}

// serverTLS is how a balancer speaks TLS with a server; nil: it does not.
type serverTLS struct {
	wire        // of the balancer
	Host string // whose certificate the server has to show
}

// tls is how a balancer speaks with a node.
func (b builder) tls(balancer, n node) *serverTLS {
	if !b.encrypts() {
		return nil
	}
	return &serverTLS{b.wire(balancer), n.host.Name}
}

type tcpData struct {
	Name, Listen string
	List         string // path of the list of its certificates; empty: it speaks no TLS
	Backend      backendData
}

type redisMasterData struct {
	Name     string
	Listen   string // for programs of this host, and without TLS for all
	TLS      *entryTLS
	Maxconn  int
	Replicas int
	Await    string        // path of the script that holds connections
	Inspect  time.Duration // how long that may take
	Backends []redisBackendData
}

type redisBackendData struct {
	Name, Password, Expect, Comment string
	Writes                          bool // only a master that takes writes counts
	Servers                         []serverData
}

// hardStop is how long a stopping balancer of the stack waits for requests in flight.
func (b builder) hardStop() time.Duration { return BalancerGrace(b.stack) }

// BalancerGrace is how long a stopping balancer waits for requests in flight: as long as the
// most patient application may take to end. Servers that are found by DNS do not end with
// the balancer, so it waits as long as a request may take.
func BalancerGrace(s stack.Stack) time.Duration {
	longest := minHardStop
	for _, app := range s.Apps {
		longest = max(longest, app.Grace)
		if app.Found != nil {
			longest = max(longest, LongestRequest(s))
		}
	}
	return longest
}

// LongestRequest is how long a balancer waits for an answer at most, of any application.
func LongestRequest(s stack.Stack) time.Duration {
	longest := s.Timeouts.Server
	for _, app := range s.Apps {
		longest = max(longest, serverTimeout(s, app))
	}
	return longest
}

// serverTimeout is how long a balancer waits for an answer of an application's server. A web
// node holds a request while there is no Redis master.
func serverTimeout(s stack.Stack, app stack.App) time.Duration {
	if app.Kind() == stack.KV {
		return max(s.Timeouts.Server, app.KV.Hold+beyondHold)
	}
	return s.Timeouts.Of(app).Server
}

// hosts are the names that the stack file gives its entry, beside those that a
// service answers to by itself (package hostname).
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

// hostPattern is what the Host of a request to a program of the user's, to files
// and to servers elsewhere has to match; empty: any. Where the entry takes tokens
// for all of its applications, a page of another site has none. Web nodes see to
// it themselves, since clients reach them past the balancers, too.
func (b builder) hostPattern(n node) string {
	if !b.stack.Entry.OnLoopback() && b.stack.Entry.Auth == "" {
		return ""
	}
	own, err := hostname.New(slices.Concat(b.host(n).Names, hosts(b.stack))...)
	if err != nil || own == nil { // a stack's names were looked at
		return ""
	}
	return own.Pattern()
}

// logFormat is how a balancer logs a request: HAProxy's own format for HTTP
// (manual, section 8.2.3) with another last field. That has the path without
// the query where it is wanted, and else a dash, so that programs that read
// HAProxy's logs read these.
func logFormat(path bool) string {
	shown := "-"
	if path {
		shown = "%HPO"
	}
	return `%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs "%HM ` + shown + ` %HV"`
}

// reloadStop is how long the old worker of a balancer that has reloaded may go on for
// what it has in hand: no request is cut that the balancer would still wait for.
func (b builder) reloadStop() time.Duration {
	return max(b.stack.Timeouts.HardStop, b.hardStop(), LongestRequest(b.stack))
}

// haproxy is the data of a balancer's haproxy.cfg.
func (b builder) haproxy(n node) haproxyData {
	s := b.stack
	d := haproxyData{
		Stack: s.Name, Node: n.shown(),
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
		// It takes root to bind like that; without virtual addresses nothing moves.
		Moves: s.Entry.Virtual.Enabled() && b.host(n).HAProxyUser != "" && b.host(n).SetsAddresses,
		// Tokens are the applications': HAProxy's own page asks for none.
		StatisticsHere: s.Entry.Auth == "",
		TrustedProxies: s.Entry.TrustedProxies, ProxyProtocol: s.Entry.ProxyProtocol,
		Hosts:       b.hostPattern(n),
		OriginNames: originNames(), StrangeOriginNames: strangeOriginNames(),
		LogAll: s.Entry.Log == "all", LogPath: s.Entry.LogPath, LogFormat: logFormat(s.Entry.LogPath),
		Unknown:     unknownWords,
		DrillHeader: DrillHeaderName,
	}
	d.Scheme, d.TLS = scheme(s.Entry), b.clientTLS(n, d)
	if len(s.Showing()) > 0 {
		d.Certificates = filepath.Join(b.host(n).StateDir, CertificatesDir)
	}
	if d.TLS != nil && d.TLS.Redirect != "" {
		d.GlobalMaxconn += redirectConnections
	}
	if cores := b.host(n).Cores; cores > 0 {
		balancers := len(of(b.beside(n), Balancer))
		d.Threads = (cores + balancers - 1) / balancers
	}
	b.routes(&d)

	layer4 := map[string]bool{}
	for i, t := range s.TCP {
		layer4[t.App] = true
		backend := b.backend(n, t.App, i)
		backend.Cookie = false
		d.TCP = append(d.TCP, tcpData{
			// A dot keeps our names apart from those of applications.
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
		d.Resolves = d.Resolves || backend.Found != ""
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

// backend is the data of an application's servers in a balancer, for the HTTP
// entry (httpEntry) or for a layer 4 entry by its index.
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
	}
	if app.Kind().Elsewhere() {
		for i, address := range slices.Concat(app.Servers, app.At) {
			server := serverData{Name: name + "-" + strconv.Itoa(i+1), Address: address}
			if app.Kind() == stack.Image {
				server.Unheard = unheardProgram // a container that is gone says nothing
			}
			d.Servers = append(d.Servers, server)
		}
		// A name that does not resolve takes out its server, not all of us.
		d.ServerLimits += " init-addr libc,none"
	}
	if app.Found != nil {
		d.Found, d.Places = app.Found.At, FoundPlaces
		d.FoundUnheard, d.Connect = unheardWeb, min(b.stack.Timeouts.Connect, connectLimit)
		if b.encrypts() {
			d.FoundTLS = &serverTLS{b.wire(balancer), podWebNode(name)}
		} else {
			d.Challenge = base64.StdEncoding.EncodeToString(token.ChallengeKey(b.facts.Secrets.Source))
		}
	}
	for _, n := range b.nodes {
		if n.kind == Web && n.app == name && app.Found == nil {
			d.Servers = append(d.Servers, b.server(balancer, n))
		}
	}
	if slices.ContainsFunc(d.Servers, func(s serverData) bool { return s.Unheard > 0 }) {
		d.Connect = min(b.stack.Timeouts.Connect, connectLimit)
	}
	b.limit(&d, balancer, name, entry)
	d.Errors = answersFor(balancer.shown(), app.Kind(), d.Limited, b.stack.Entry.Errors)
	return d
}

// direct is the backend of a KV's servers for what waits for no place.
func (d backendData) direct() backendData {
	if d.Found == "" { // whoever is found may be another one in each backend
		d.Tracks = d.Name
	}
	d.Name += ".direct"
	d.What = "for what waits for no place"
	d.ServerLimits, d.Limited, d.MaxQueued, d.Retries = "", false, 0, 0
	d.Errors = answersFor(d.Errors.Node, stack.KV, false, d.Errors.Pages)
	return d
}

// FoundPlaces is how many nodes of an application the balancers have room for where DNS tells
// their addresses: an autoscaler does not ask.
const FoundPlaces = 50

// fastInterval is the time between two checks of a server that is down or in
// doubt. HAProxy checks at most every 100 ms here: less would only burden.
func fastInterval(h stack.Health) time.Duration {
	return min(h.Interval, max(h.Interval/4, 100*time.Millisecond))
}

// CheckedWithin is how long the balancers may take to send requests to a node of
// any application that has become fit: until so many of their checks have passed.
func CheckedWithin(s stack.Stack) time.Duration {
	var longest time.Duration
	for _, app := range s.Apps {
		rise := time.Duration(app.Health.Rise) * fastInterval(app.Health)
		longest = max(longest, rise+checkTimeout(s, app))
	}
	return longest
}

// checkTimeout is how long a balancer waits for the answer to a health check,
// with the time that it takes to connect (HAProxy manual, "timeout check").
func checkTimeout(s stack.Stack, app stack.App) time.Duration {
	return min(s.Timeouts.Connect, app.Health.Interval) + s.Timeouts.Check
}

// redisMaster is the data of the port that always leads to the master.
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
	for _, r := range of(b.nodes, Redis) {
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

// bindAddress is an address as HAProxy's bind takes it.
func bindAddress(listen string) string {
	h, port, err := net.SplitHostPort(listen)
	if err == nil && (h == "" || h == "*") {
		return "*:" + port
	}
	return listen
}

// entryListen is where a balancer of a stack listens. Where the stack has hosts, and every
// address of a host is meant, the loopback address is bound by itself as well: a stack
// that listened on it alone, and becomes one of several hosts, keeps that socket.
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

// masterListen is where a balancer listens for programs that want the Redis master: at the
// address of its host, and on the loopback address. Programs on a machine that has just
// become a host of several know only that.
func (b builder) masterListen(n node) string {
	port := strconv.Itoa(b.facts.Ports[PortRedisMaster])
	listen := net.JoinHostPort(n.host.Address, port)
	if len(b.stack.Hosts) == 0 || n.host.loopback() {
		return listen
	}
	return listen + "," + net.JoinHostPort(loopback, port)
}
