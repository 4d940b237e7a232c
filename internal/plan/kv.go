package plan

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/commands"
	"holdfast/internal/stack"
)

// dataDatabase is the number of the Redis database that applications use.
const dataDatabase = 0

// tokensFile is the name of a web node's file with the tokens of the stack file.
const tokensFile = "tokens.yaml"

// kvEnv returns the settings of one of Holdfast's own web nodes. It sets every variable, even to
// the node's default, so that nothing of the supervisor's own environment reaches the node.
func (b builder) kvEnv(n node, kv stack.KVApp) map[string]string {
	env := map[string]string{
		"HOLDFAST_STACK":              b.stack.Name,
		"HOLDFAST_APP":                n.app,
		"HOLDFAST_READS":              kv.Reads,
		"HOLDFAST_MAX_LAG":            kv.MaxLag.String(),
		"HOLDFAST_WRITES":             kv.Writes,
		"HOLDFAST_HOLD":               kv.Hold.String(),
		"HOLDFAST_REMEMBER":           kv.Remember.String(),
		"HOLDFAST_ALLOW":              strings.Join(kv.AllowedCommands(), ","),
		"HOLDFAST_SCRIPTS":            kv.Scripts,
		"REDIS_SCRIPT_USERS":          b.scriptLogins(n.app, kv),
		"HOLDFAST_MAX_BODY":           strconv.FormatInt(int64(kv.Limits.Body), 10),
		"HOLDFAST_MAX_ANSWER":         strconv.FormatInt(int64(kv.Limits.Answer), 10),
		"HOLDFAST_MAX_KEY":            strconv.FormatInt(int64(kv.Limits.Key), 10),
		"HOLDFAST_MAX_PIPELINE":       strconv.Itoa(kv.Limits.Pipeline),
		"HOLDFAST_CONNECTIONS":        strconv.Itoa(kv.Limits.Connections),
		"HOLDFAST_STREAMS":            strconv.Itoa(kv.Limits.Streams),
		"HOLDFAST_STREAMS_PER_CLIENT": strconv.Itoa(kv.Limits.StreamsPerClient),
		"HOLDFAST_CORS":               strings.Join(kv.CORS, ","),
		"HOLDFAST_HOSTS":              strings.Join(hosts(b.stack), ","),
		"HOLDFAST_ACCESS_LOG":         strconv.FormatFloat(kv.AccessLog, 'f', -1, 64),
		"HOLDFAST_SOURCE_SECRET":      b.facts.Secrets.Source,
		"HOLDFAST_THREADS":            b.webThreads(n),
		"HOLDFAST_ADMIN":              "",
		"HOLDFAST_TOKENS":             "",
		"HOLDFAST_AUTH":               "",
		"OTEL_EXPORTER_OTLP_ENDPOINT": kv.Trace,
	}

	env["HOLDFAST_LISTEN"] = b.localAddress(n)
	for _, name := range []string{"HOLDFAST_LISTEN_TLS", "HOLDFAST_TLS_CERT", "HOLDFAST_TLS_KEY", "HOLDFAST_TLS_CLIENTS"} {
		env[name] = ""
	}

	if b.servesTLS(n) {
		w := b.wire(n)
		env["HOLDFAST_LISTEN_TLS"] = b.address(n)
		env["HOLDFAST_TLS_CERT"], env["HOLDFAST_TLS_KEY"], env["HOLDFAST_TLS_CLIENTS"] = w.Certificate, w.Certificate, w.Authority
	}
	if kv.Admin {
		env["HOLDFAST_ADMIN"] = net.JoinHostPort(n.host.Address, strconv.Itoa(b.facts.Ports[adminPort(n.name)]))
	}

	switch {
	case len(kv.Tokens) > 0:
		env["HOLDFAST_TOKENS"] = b.path(n, tokensFile)
	case kv.TokensFile != "":
		env["HOLDFAST_TOKENS"] = b.resolve(n, kv.TokensFile)
	case len(b.facts.Hosts) > 0 && !n.host.loopback():
		// The node listens at an address that is not loopback, so the entry's rule applies to it,
		// too.
		env["HOLDFAST_AUTH"] = b.stack.Entry.Auth
	}
	return env
}

// redisUser is a Redis user of an application.
type redisUser struct{ Name, Password, Rights string }

// scriptUsers returns the Redis users that the scripts of an application's clients run as: one for
// clients who may write, and one for tokens that may only read. An application without scripts has
// no such users.
func (b builder) scriptUsers(app string, kv stack.KVApp) []redisUser {
	if kv.Scripts == "off" {
		return nil
	}
	return []redisUser{
		{"scripts-" + app, b.facts.Secrets.Scripts, commands.ScriptRights(dataDatabase, kv.GrantedCommands())},
		{"read-scripts-" + app, b.facts.Secrets.ReadScripts, commands.ReadScriptRights(dataDatabase)},
	}
}

// scriptLogins returns those users as a web node's setting: NAME:PASSWORD,NAME:PASSWORD.
func (b builder) scriptLogins(app string, kv stack.KVApp) string {
	var all []string
	for _, u := range b.scriptUsers(app, kv) {
		all = append(all, u.Name+":"+u.Password)
	}
	return strings.Join(all, ",")
}

// allScriptUsers returns the script users of all applications, sorted by application.
func (b builder) allScriptUsers() []redisUser {
	var all []redisUser
	for _, name := range slices.Sorted(maps.Keys(b.stack.Apps)) {
		if kv := b.stack.Apps[name].KV; kv != nil {
			all = append(all, b.scriptUsers(name, *kv)...)
		}
	}
	return all
}

// programUser returns the Redis user of an application's own program.
func (b builder) programUser(app string) redisUser {
	access := b.stack.Apps[app].Redis
	databases := append([]int{dataDatabase}, access.Databases...)
	return redisUser{
		programUserName(app), b.facts.Secrets.Programs[app],
		commands.ProgramRights(databases, access.Patterns, access.AllowedCommands()),
	}
}

// programUsers returns the Redis users of all programs, sorted by application.
func (b builder) programUsers() []redisUser {
	var all []redisUser
	for _, app := range b.stack.Programs() {
		all = append(all, b.programUser(app))
	}
	return all
}

// webThreads returns how many cores a web node uses; empty: unknown. Half of a host's cores are for
// its web nodes together, the other half is for HAProxy and Redis.
func (b builder) webThreads(n node) string {
	if b.host(n).Cores == 0 {
		return ""
	}
	nodes := 0
	for _, other := range b.sameHostNodes(n) {
		if b.stack.Apps[other.app].Kind() == stack.KV {
			nodes++
		}
	}
	return strconv.Itoa(max(1, b.host(n).Cores/2/nodes))
}

// allowed returns the dangerous commands that the clients of any application may use. All web nodes
// share one Redis user, and each node refuses what its own application does not allow.
func (b builder) allowed() []string {
	var all []string
	for _, app := range b.stack.Apps {
		if app.KV != nil {
			all = append(all, app.KV.DangerousCommands()...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
