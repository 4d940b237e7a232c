package cli

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"holdfast/internal/commands"
	"holdfast/internal/hostname"
	"holdfast/internal/keypair"
	"holdfast/internal/kvdefault"
	"holdfast/internal/otlp"
	"holdfast/internal/redis"
	"holdfast/internal/stack"
	"holdfast/internal/token"
)

// option is a setting of a web node. It comes from a flag, or else from an environment variable,
// which is how the supervisor sets it.
type option struct {
	flag, env string
	// usage is the text in --help. A word in backquotes stands for the value.
	usage string
	// initial is the default; with "" and no value, set is not called.
	initial string
	// several is true if the flag can be repeated. Its value is a list with commas.
	several bool
	// secret is true if no error may quote the value.
	secret bool
	// path is true if the value is the path of a file.
	path bool
	set  func(n *webNode, text string) error
}

// minRemember is the shortest memory for idempotency keys, without --hold: a node accepts a write
// up to 20 s after a balancer got it.
const minRemember = 20 * time.Second

// webOptions are all options, in the order in which they are read.
var webOptions = []option{
	{flag: "listen", usage: "`ADDRESS` to listen on, HOST:PORT or unix:PATH; may be repeated", env: "HOLDFAST_LISTEN", several: true, set: setListen},
	{flag: "listen-tls", usage: "`ADDRESS` to listen on likewise, for clients that speak TLS; needs --tls-cert and --tls-key", env: "HOLDFAST_LISTEN_TLS", several: true, set: func(n *webNode, text string) error {
		return n.listenAt(text, true)
	}},
	{flag: "tls-cert", path: true, env: "HOLDFAST_TLS_CERT", usage: "`FILE` with the certificate (PEM) to show to these clients; read anew when it has changed", set: func(n *webNode, text string) error {
		n.tlsCert = text
		return nil
	}},
	{flag: "tls-key", path: true, env: "HOLDFAST_TLS_KEY", usage: "`FILE` with the key (PEM) of that certificate", set: func(n *webNode, text string) error {
		n.tlsKey = text
		return nil
	}},
	{flag: "tls-clients", path: true, env: "HOLDFAST_TLS_CLIENTS", usage: "`FILE` with the certificates (PEM) of the authorities of which each of these clients has to show a certificate (default: they need none)", set: func(n *webNode, text string) error {
		n.tlsClients = text
		return nil
	}},
	{flag: "node", env: "HOLDFAST_NODE", usage: "`NAME` of this node, told in answers", set: func(n *webNode, text string) error {
		if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("it has characters other than printable ASCII")
		}
		n.web.Node, n.redis.Name = text, text
		return nil
	}},
	{flag: "redis-master-name", env: "REDIS_MASTER_NAME", usage: "the Sentinels' `NAME` for the master", set: func(n *webNode, text string) error {
		n.redis.MasterName = text
		return nil
	}},
	{flag: "redis-url", env: "REDIS_URL", secret: true, usage: "`URL` of Redis: redis://USER:PASSWORD@HOST:PORT/DB, redis+sentinel://… or redis+cluster://…; rediss for TLS", set: func(n *webNode, text string) error {
		return redis.ParseURL(text, &n.redis)
	}},
	{flag: "redis-sentinels", env: "REDIS_SENTINELS", several: true, usage: "`HOST:PORT,...` of all Sentinels", set: func(n *webNode, text string) error {
		n.redis.Sentinels = items(text)
		for _, addr := range n.redis.Sentinels {
			if err := checkAddress(addr); err != nil {
				return fmt.Errorf("the Sentinel %q: %w", addr, err)
			}
		}
		return nil
	}},
	{flag: "redis-ca", path: true, env: "REDIS_CA", usage: "`FILE` with the certificates (PEM) of the authorities that Redis' certificate may be from, with rediss (default: the system's)", set: func(n *webNode, text string) (err error) {
		n.authorities, err = os.ReadFile(text)
		return err
	}},
	{flag: "redis-cert", path: true, env: "REDIS_CERT", usage: "`FILE` with the certificate (PEM) to show to Redis, with rediss; needs --redis-key", set: func(n *webNode, text string) (err error) {
		n.certificateFile = text
		n.certificate, err = os.ReadFile(text)
		return err
	}},
	{flag: "redis-key", path: true, env: "REDIS_KEY", usage: "`FILE` with the key (PEM) of that certificate", set: func(n *webNode, text string) (err error) {
		n.keyFile = text
		n.key, err = os.ReadFile(text)
		return err
	}},
	{flag: "min-acks", env: "HOLDFAST_MIN_ACKS", usage: "how many `REPLICAS` must have a write before it is acknowledged, however few are in sync (default 1 with Sentinels or a cluster, else 0)", set: func(n *webNode, text string) (err error) {
		n.redis.MinAcks, err = number(text, 0, 1000)
		return err
	}},
	{flag: "hold", env: "HOLDFAST_HOLD", initial: kvdefault.Hold.String(), usage: "how long a request waits for a Redis master, a `DURATION`", set: func(n *webNode, text string) (err error) {
		n.redis.Hold, err = duration(text, time.Millisecond)
		return err
	}},
	{flag: "reads", env: "HOLDFAST_READS", initial: kvdefault.Reads, usage: "where is read from unless a request says it: `WHERE` is master, replica (at most --max-lag old) or cached", set: func(n *webNode, text string) (err error) {
		n.web.Read, err = oneOf(text, map[string]redis.ReadFrom{"master": redis.ReadMaster, "replica": redis.ReadReplica, "cached": redis.ReadCached})
		return err
	}},
	{flag: "writes", env: "HOLDFAST_WRITES", initial: kvdefault.Writes, usage: "when a write is acknowledged unless a request says it: `WHEN` is in-sync (every in-sync replica has it) or async (the master has it)", set: func(n *webNode, text string) (err error) {
		n.web.Async, err = oneOf(text, map[string]bool{"in-sync": false, "async": true})
		return err
	}},
	{flag: "max-lag", env: "HOLDFAST_MAX_LAG", initial: kvdefault.MaxLag.String(), usage: "how old a replica's answer may be unless a request says it, a `DURATION`", set: func(n *webNode, text string) (err error) {
		n.redis.MaxLag, err = duration(text, time.Millisecond)
		return err
	}},
	{flag: "remember", env: "HOLDFAST_REMEMBER", usage: "how long a write with an Idempotency-Key is remembered, a `DURATION` (default 30s, or six times --hold if that is more)", set: func(n *webNode, text string) (err error) {
		n.redis.IdempotencyTTL, err = duration(text, minRemember)
		return err
	}},
	{flag: "tokens", path: true, env: "HOLDFAST_TOKENS", usage: "`FILE` with the tokens that may be used and what each may do; see 'holdfast token'", set: func(n *webNode, text string) error {
		data, err := os.ReadFile(text)
		if err != nil {
			return err
		}
		n.files = append(n.files, text)
		n.web.Tokens, err = token.Parse(text, data)
		return err
	}},
	{flag: "auth", env: "HOLDFAST_AUTH", usage: "`HOW` is none: nobody needs a token though others can connect (default: it takes --tokens to listen on an address that is not loopback)", set: func(n *webNode, text string) error {
		_, err := oneOf(text, map[string]bool{"none": true})
		return err
	}},
	{flag: "allow", env: "HOLDFAST_ALLOW", several: true, usage: "`COMMAND,...` that are allowed though they are dangerous or wait for data: names (keys, config|get) or classes (@dangerous, @blocking)", set: func(n *webNode, text string) error {
		n.web.Allow = items(strings.ToLower(text))
		for _, item := range n.web.Allow {
			if err := token.Item(item); err != nil {
				return err
			}
			if why := commands.Refused(item); why != "" {
				return fmt.Errorf("%q cannot be allowed: %s; remove it", item, why)
			}
		}
		return nil
	}},
	{flag: "scripts", env: "HOLDFAST_SCRIPTS", usage: "`WHICH` scripts and functions clients may run: off, read (EVAL_RO and its like) or on (default on; for tokens, where --script-users gives scripts rights of their own, or where on is written)", set: func(n *webNode, text string) (err error) {
		n.web.Scripts, err = oneOf(text, commands.ScriptModes)
		n.web.ScriptsAnyway = err == nil
		return err
	}},
	{flag: "script-users", env: "REDIS_SCRIPT_USERS", secret: true, usage: "`USER:PASSWORD,USER:PASSWORD`: the Redis users as which scripts run, of clients who may write and of tokens that may only read (default: as the user of the Redis URL)", set: setScriptUsers},
	{flag: "cors", env: "HOLDFAST_CORS", several: true, usage: "`ORIGIN,...` whose pages may use this node (https://example.org, or * for all)", set: func(n *webNode, text string) error {
		n.web.CORS = items(strings.ToLower(text))
		for _, origin := range n.web.CORS {
			if err := checkOrigin(origin); err != nil {
				return err
			}
		}
		return nil
	}},
	{flag: "hosts", env: "HOLDFAST_HOSTS", several: true, usage: "`NAME,...` that a node without tokens answers to, beside addresses, names without a dot and this machine's own; *.DOMAIN is all names below one, and * every name", set: func(n *webNode, text string) error {
		n.hosts = items(text)
		_, err := hostname.New(n.hosts...)
		return err
	}},
	{flag: "max-body", env: "HOLDFAST_MAX_BODY", initial: stack.Bytes(kvdefault.MaxBody).Text(), usage: "how large the body of a request may be, a `SIZE`", set: func(n *webNode, text string) (err error) {
		n.web.MaxBody, err = size(text)
		return err
	}},
	{flag: "max-answer", env: "HOLDFAST_MAX_ANSWER", initial: stack.Bytes(kvdefault.MaxAnswer).Text(), usage: "how long the answer to a request may be, a `SIZE` from 1mb; the node holds six such at once, four for one client", set: func(n *webNode, text string) (err error) {
		if n.redis.MaxAnswer, err = size(text); err == nil && n.redis.MaxAnswer < 1<<20 {
			err = fmt.Errorf("it has to be 1mb or more")
		}
		return err
	}},
	{flag: "max-key", env: "HOLDFAST_MAX_KEY", initial: stack.Bytes(kvdefault.MaxKey).Text(), usage: "how long a key may be, a `SIZE`", set: func(n *webNode, text string) (err error) {
		n.web.MaxKey, err = size(text)
		return err
	}},
	{flag: "max-pipeline", env: "HOLDFAST_MAX_PIPELINE", initial: strconv.Itoa(kvdefault.MaxPipeline), usage: "how many `COMMANDS` one request may have", set: func(n *webNode, text string) (err error) {
		n.web.MaxPipeline, err = number(text, 1, 1<<24)
		return err
	}},
	{flag: "connections", env: "HOLDFAST_CONNECTIONS", initial: strconv.Itoa(kvdefault.Connections), usage: "how many `CLIENTS` may be connected at once", set: func(n *webNode, text string) (err error) {
		n.web.Connections, err = number(text, 1, 1<<24)
		return err
	}},
	{flag: "streams", env: "HOLDFAST_STREAMS", usage: "how many `STREAMS` and long polls there may be at once (default: half of --connections)", set: func(n *webNode, text string) (err error) {
		n.web.Streams, err = number(text, 1, 1<<24)
		return err
	}},
	{flag: "streams-per-client", env: "HOLDFAST_STREAMS_PER_CLIENT", initial: "0", usage: "how many of these `STREAMS` one token has, or without tokens one client address; 0: at most as many as are free", set: func(n *webNode, text string) (err error) {
		n.web.StreamsPerClient, err = number(text, 0, 1<<24)
		return err
	}},
	{flag: "source-secret", env: "HOLDFAST_SOURCE_SECRET", secret: true, usage: "`SECRET` by which balancers show that it is they who say, in Holdfast-Source, from which address a client comes (default: nobody says)", set: func(n *webNode, text string) error {
		n.web.SourceSecret = text
		return nil
	}},
	{flag: "threads", env: "HOLDFAST_THREADS", usage: "how many `CORES` the node may use at once (default: half of them, HAProxy and Redis need the others)", set: func(n *webNode, text string) (err error) {
		n.threads, err = number(text, 1, 1024)
		return err
	}},
	{flag: "admin", env: "HOLDFAST_ADMIN", usage: "`HOST:PORT` for those who run the node: /metrics (Prometheus), /debug/pprof/, /healthz (default: none)", set: func(n *webNode, text string) error {
		n.admin = text
		return checkAddress(text)
	}},
	{flag: "access-log", env: "HOLDFAST_ACCESS_LOG", initial: "0", usage: "`FRACTION` of the requests, 0 to 1, that are logged to standard output, a line of JSON each", set: func(n *webNode, text string) (err error) {
		n.web.AccessLog, err = strconv.ParseFloat(text, 64)
		if err != nil || !(n.web.AccessLog >= 0 && n.web.AccessLog <= 1) {
			return fmt.Errorf("it has to be a number from 0 to 1")
		}
		return nil
	}},
	{flag: "trace", env: "OTEL_EXPORTER_OTLP_ENDPOINT", usage: "`URL` to which traces go (OpenTelemetry, OTLP over HTTP); OTEL_TRACES_SAMPLER says which (default: none are made)", set: func(n *webNode, text string) error {
		n.web.Trace = text
		if u, err := url.Parse(text); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("it has to be a URL such as http://127.0.0.1:4318")
		}
		return nil
	}},
}

// webFlags are the values of a web node's options, as texts.
type webFlags struct {
	text   map[string]string
	listen string // $HOST:$PORT
	stack  string // $HOLDFAST_STACK: the stack that the node is part of
	app    string // $HOLDFAST_APP: its application there
	getenv func(string) string
}

func newWebFlags() *webFlags { return &webFlags{text: map[string]string{}} }

// optionValue is the value of one flag.
type optionValue struct {
	f *webFlags
	o option
}

// Set, Type and String implement pflag.Value. String returns nothing, so that --help shows no
// value: one of the variables has a password.
func (g optionValue) Set(text string) error {
	if g.o.several && g.f.text[g.o.flag] != "" {
		text = g.f.text[g.o.flag] + "," + text
	}
	g.f.text[g.o.flag] = text
	return nil
}
func (g optionValue) Type() string   { return "string" }
func (g optionValue) String() string { return "" }

// register adds the flags.
func (f *webFlags) register(flags *pflag.FlagSet) {
	for _, o := range webOptions {
		usage := o.usage + " [$" + o.env
		switch {
		case o.flag == "listen":
			usage += ", else $HOST:$PORT, else 127.0.0.1:5000]"
		case o.initial != "":
			usage += "; " + o.initial + "]"
		default:
			usage += "]"
		}
		flags.Var(optionValue{f, o}, o.flag, usage)
	}
}

// fill takes from the environment what the flags leave open.
func (f *webFlags) fill(getenv func(string) string) {
	for _, o := range webOptions {
		if f.text[o.flag] == "" {
			f.text[o.flag] = getenv(o.env)
		}
	}
	f.listen, f.getenv = listenAddress(getenv), getenv
	f.stack, f.app = getenv("HOLDFAST_STACK"), getenv("HOLDFAST_APP")
}

// node returns the web node that the values describe. Its errors are usage errors that name the
// flag and the variable, and never quote the Redis URL, which has a password.
func (f *webFlags) node() (*webNode, error) {
	n := &webNode{}
	n.web.InStack, n.redis.App = f.stack != "", f.app
	for _, o := range webOptions {
		text := f.text[o.flag]
		if text == "" {
			text = o.initial
		}
		if o.flag == "listen" && text == "" {
			if err := checkListen(f.listen); err != nil {
				return nil, err
			}
			text = f.listen
		}
		if text == "" {
			continue
		}
		if o.path {
			var err error
			if text, err = expandHome(text, f.getenv); err != nil {
				return nil, usagef("--%s (or %s): %w", o.flag, o.env, err)
			}
		}
		if err := o.set(n, text); err != nil {
			value := fmt.Sprintf(" %.80q", text)
			if o.secret {
				value = ""
			}
			return nil, usagef("--%s (or %s)%s: %w", o.flag, o.env, value, err)
		}
	}

	if n.redis.Address == "" && len(n.redis.Sentinels) == 0 && len(n.redis.Cluster) == 0 {
		return nil, usagef("no Redis to serve from: give REDIS_URL or --redis-url (redis://127.0.0.1:6379 is a Redis on this machine), or the Sentinels (REDIS_SENTINELS or --redis-sentinels)")
	}
	if err := n.loadRedisTLS(); err != nil {
		return nil, err
	}
	if err := n.loadClientTLS(); err != nil {
		return nil, err
	}
	if n.web.Trace != "" {
		var err error
		if n.web.TraceSettings, err = otlp.FromEnvironment(f.getenv); err != nil {
			return nil, usagef("traces: %w", err)
		}
	}
	if len(n.redis.Sentinels) > 0 {
		if n.redis.MasterName == "" {
			return nil, usagef("Sentinels are given, but not the name of the master that they watch: give REDIS_MASTER_NAME or --redis-master-name")
		}
	}
	if (len(n.redis.Sentinels) > 0 || len(n.redis.Cluster) > 0) && f.text["min-acks"] == "" {
		n.redis.MinAcks = 1
	}
	if ttl := n.redis.IdempotencyTTL; ttl != 0 && ttl < minRemember+n.redis.Hold {
		return nil, usagef("--remember (or HOLDFAST_REMEMBER) %v: with --hold %v it has to be at least %v, or a write that was held and sent again could happen twice", ttl, n.redis.Hold, minRemember+n.redis.Hold)
	}
	if f.text["auth"] != "" && n.web.Tokens != nil {
		return nil, usagef("--auth none (or HOLDFAST_AUTH) says that nobody needs a token, and --tokens (or HOLDFAST_TOKENS) that everybody does: give one of them")
	}

	var err error
	if n.web.Hosts, err = ownHosts(n.hosts); err != nil {
		return nil, err
	}

	for _, a := range n.listen {
		if n.web.Tokens == nil && f.text["auth"] == "" && !a.loopback() {
			return nil, usagef("others than this machine can reach %s, and whoever reaches it could read and write everything: give --tokens FILE (or HOLDFAST_TOKENS), which 'holdfast token new' begins, or --auth none (or HOLDFAST_AUTH) if something else sees to it", a.at)
		}
	}
	return n, nil
}

// loadRedisTLS applies the files for TLS to Redis, if the URL asks for TLS.
func (n *webNode) loadRedisTLS() error {
	if n.authorities == nil && n.certificate == nil && n.key == nil {
		return nil
	}
	const flags = "--redis-ca, --redis-cert and --redis-key (or REDIS_CA, REDIS_CERT and REDIS_KEY)"
	if n.redis.TLS == nil {
		return usagef("%s are for TLS, and the Redis URL does not ask for it: write rediss:// instead of redis:// (or rediss+sentinel://, rediss+cluster://)", flags)
	}
	settings, err := redis.TLS(n.authorities, n.certificate, n.key)
	if err != nil {
		return usagef("%s: %w", flags, err)
	}
	if n.certificate != nil {
		pair, err := keypair.Open(n.certificateFile, n.keyFile)
		if err != nil {
			return usagef("%s: %w", flags, err)
		}
		settings.Certificates = nil // those from before a renewal
		pair.Show(settings)
	}
	n.redis.TLS = settings
	return nil
}

// loadClientTLS applies the files for TLS with clients.
func (n *webNode) loadClientTLS() error {
	listens := slices.ContainsFunc(n.listen, func(a address) bool { return a.secure })
	switch {
	case !listens && n.tlsCert == "" && n.tlsKey == "" && n.tlsClients == "":
		return nil
	case !listens:
		return usagef("--tls-cert, --tls-key and --tls-clients are for clients that speak TLS, and nothing listens for them: give --listen-tls (or HOLDFAST_LISTEN_TLS)")
	case n.tlsCert == "" || n.tlsKey == "":
		return usagef("--listen-tls (or HOLDFAST_LISTEN_TLS) needs --tls-cert and --tls-key (or HOLDFAST_TLS_CERT and HOLDFAST_TLS_KEY)")
	}
	pair, err := keypair.Open(n.tlsCert, n.tlsKey)
	if err != nil {
		return usagef("--tls-cert and --tls-key (or HOLDFAST_TLS_CERT and HOLDFAST_TLS_KEY): %w", err)
	}
	n.server = &tls.Config{MinVersion: tls.VersionTLS12}
	if n.tlsClients == "" {
		pair.Show(n.server)
		return nil
	}
	if n.server, err = keypair.Mutual(n.tlsClients, pair); err != nil {
		return usagef("--tls-clients (or HOLDFAST_TLS_CLIENTS): %w", err)
	}
	return nil
}

func setListen(n *webNode, text string) error { return n.listenAt(text, false) }

func (n *webNode) listenAt(text string, secure bool) error {
	for _, item := range items(text) {
		a, err := parseAddress(item)
		if err != nil {
			return fmt.Errorf("%q: %w", item, err)
		}
		a.secure = secure
		n.listen = append(n.listen, a)
	}
	if len(n.listen) == 0 {
		return fmt.Errorf("there is no address in it")
	}
	return nil
}

// setScriptUsers parses one or two users, written as in a URL.
func setScriptUsers(n *webNode, text string) error {
	parts := items(text)
	if len(parts) > 2 {
		return fmt.Errorf("it has to be one or two of USER:PASSWORD, with a comma between them")
	}
	for i, part := range parts {
		name, password, found := strings.Cut(part, ":")
		user, err := url.PathUnescape(name)
		secret, err2 := url.PathUnescape(password)
		if !found || err != nil || err2 != nil || user == "" || secret == "" {
			return fmt.Errorf("each has to be USER:PASSWORD; what is no letter or digit is written %%XX")
		}
		login := &redis.Login{Username: user, Password: secret}
		if i == 0 {
			n.redis.ScriptUser, n.web.ScriptUser = login, true
		} else {
			n.redis.ReadScriptUser, n.web.ReadScriptUser = login, true
		}
	}
	return nil
}

// items returns the parts of a list with commas.
func items(text string) []string {
	var parts []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

func duration(text string, least time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("it has to be a duration such as 500ms, 5s or 2m")
	}
	if d < least {
		return 0, fmt.Errorf("it has to be at least %v", least)
	}
	return d, nil
}

func number(text string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("it has to be a whole number from %d to %d", least, most)
	}
	return n, nil
}

// size parses a number of bytes: 512, 64kb, 10mb, 1gb (powers of 1024, as in the stack file).
func size(text string) (int, error) {
	digits, unit := strings.ToLower(text), 1
	for suffix, bytes := range map[string]int{"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30} {
		if rest, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = rest, bytes
		}
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || n == 0 || int(n)*unit > 1<<30 {
		return 0, fmt.Errorf("it has to be a size from 1 to 1gb, such as 64kb or 10mb")
	}
	return int(n) * unit, nil
}

func oneOf[T any](text string, values map[string]T) (T, error) {
	value, ok := values[text]
	if !ok {
		names := make([]string, 0, len(values))
		for _, name := range []string{"master", "replica", "cached", "in-sync", "async", "none", "off", "read", "on"} {
			if _, has := values[name]; has {
				names = append(names, name)
			}
		}
		return value, fmt.Errorf("it has to be %s", strings.Join(names, " or "))
	}
	return value, nil
}

// checkOrigin returns an error for a text that is not an origin of a browser (RFC 6454, section
// 6.2).
func checkOrigin(origin string) error {
	if origin == "*" {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
		return fmt.Errorf("%q is not an origin such as https://example.org or http://127.0.0.1:8080", origin)
	}
	return nil
}
