package auth

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/valyala/fasthttp"

	"holdfast/internal/commands"
	"holdfast/internal/hostname"
	"holdfast/internal/redis"
	"holdfast/internal/token"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/response"
	"holdfast/internal/web/urlquery"
)

// errToken is the error of a request without a good token, in the words that Upstash documents.
var errToken = response.NewError(fasthttp.StatusUnauthorized, "WRONGPASS invalid or missing auth token")

// Authorize returns the rights of a request's token. They are nil when no tokens are configured and
// everybody may do everything. The token is in the Authorization header, else in the parameter
// _token.
func (a *Authorizer) Authorize(ctx *fasthttp.RequestCtx) (*token.Rights, error) {
	if a.cfg.Tokens == nil {
		return nil, nil
	}
	who, err := a.Rights(ctx.Request.Header.Peek("Authorization"), ctx.URI().QueryString())
	if err != nil {
		a.cfg.Refused()
		ctx.Response.Header.Set("WWW-Authenticate", `Bearer realm="holdfast"`)
		return nil, err
	}
	if a.cfg.KeepName {
		ctx.SetUserValue(TokenName, who.Name)
	}
	return who, nil
}

// Rights returns the rights of a request by its Authorization header and its query, as Authorize does.
func (a *Authorizer) Rights(authorization, query []byte) (*token.Rights, error) {
	if a.cfg.Tokens == nil {
		return nil, nil
	}
	if who := a.cfg.Tokens.Find(presented(authorization, query)); who != nil {
		return who, nil
	}
	return nil, errToken
}

// presented returns the token that a request brings; empty when there is none.
func presented(given, query []byte) []byte {
	const scheme = "Bearer "
	if len(given) > 0 {
		// The case of the scheme does not matter (RFC 9110, section 11.1).
		if len(given) < len(scheme) || !bytes.EqualFold(given[:len(scheme)], []byte(scheme)) {
			return nil
		}
		return bytes.TrimSpace(given[len(scheme):])
	}
	if !bytes.Contains(query, []byte("_token")) {
		return nil
	}
	given, _, err := urlquery.Parameter(query, "_token")
	if err != nil {
		return nil
	}
	return given
}

// Config says who may do what. The fields are explained at web.Config, except for the last three.
type Config struct {
	Allow                      []string
	InStack                    bool
	Scripts                    commands.Scripts
	ScriptUser, ReadScriptUser bool
	ScriptsAnyway              bool
	Tokens                     *token.Set
	CORS                       []string
	Hosts                      *hostname.Set

	// KeepName: the name of a request's token is kept among its user values, under TokenName.
	KeepName bool
	// Learned is called with each command that is decided about for the first time, and Refused for
	// each request without a good token. Many requests call them at once.
	Learned func(*redis.Spec)
	Refused func()
}

// specs tells what Redis says about a command.
type specs interface {
	Spec(ctx context.Context, cmd redis.Command) (*redis.Spec, error)
}

// Authorizer decides who may do what, and remembers what it decided about commands. Many requests
// use it at once.
type Authorizer struct {
	cfg     Config
	specs   specs
	senders *fair.Senders
	allow   []string // Config.Allow in lower case
	// known has the verdicts on each token's commands; under nil those without tokens. The maps of
	// verdicts are replaced, never changed.
	known map[*token.Rights]*atomic.Pointer[verdicts]
	host  atomic.Pointer[string] // one of Config.Hosts, the first that was asked for: see AnswersTo
}

type verdicts map[*redis.Spec]verdict

// maxVerdicts bounds the verdicts that are remembered for a token. Redis has some 400 commands, and
// each has a new Spec after a failover.
const maxVerdicts = 2000

// verdict is what holds for a command whatever its arguments are.
type verdict struct {
	err error // why it is refused; nil: it is not
	// waits is why the command is refused when its arguments make it block.
	waits error
	// limited: the keys in its arguments have to be checked.
	limited bool
	// particular: its other arguments have to be checked, too (commands.RefusedWords).
	particular bool
}

// New returns an authorizer. of tells what Redis says about commands, and from whose share a request
// takes.
func New(cfg Config, of specs, from *fair.Senders) *Authorizer {
	a := &Authorizer{cfg: cfg, specs: of, senders: from, known: map[*token.Rights]*atomic.Pointer[verdicts]{}}
	for _, name := range cfg.Allow {
		a.allow = append(a.allow, strings.ToLower(name))
	}
	all := []*token.Rights{nil}
	if cfg.Tokens != nil {
		all = append(all, cfg.Tokens.All()...)
	}
	for _, who := range all {
		a.known[who] = new(atomic.Pointer[verdicts])
		a.known[who].Store(&verdicts{})
	}
	return a
}

// Permit returns nil when each of the commands is allowed. Its error is a *response.Error, or an
// *redis.Error when Redis could not be asked what a command is.
func (a *Authorizer) Permit(ctx context.Context, who *token.Rights, cmds []redis.Command) error {
	for _, cmd := range cmds {
		if err := a.permitOne(ctx, who, cmd); err != nil {
			return err
		}
	}
	return nil
}

// permitOne is Permit for one command.
func (a *Authorizer) permitOne(ctx context.Context, who *token.Rights, cmd redis.Command) error {
	if len(cmd) == 0 {
		return response.BadRequest("ERR empty command")
	}
	spec, err := a.specs.Spec(ctx, cmd)
	if err != nil {
		return err
	}
	if spec == nil {
		// Redis itself answers that it has no such command. A token that may not do everything is
		// told nothing about which commands there are.
		if who != nil && (who.ReadOnly || who.Limited() || len(who.Allow) > 0 || len(who.Deny) > 0) {
			return noCommand(strings.ToLower(cmd[0]))
		}
		return nil
	}
	v := a.verdict(who, spec)
	switch {
	case v.err != nil:
		return v.err
	case v.particular && commands.RefusedWords(spec.Name, cmd) != "":
		return refused(spec.Name, commands.RefusedWords(spec.Name, cmd))
	case v.waits != nil && spec.BlockingFor(cmd):
		return v.waits
	case v.limited:
		return limit(who, spec, cmd)
	}
	return nil
}

// verdict returns what was decided about a command before, or decides it now.
func (a *Authorizer) verdict(who *token.Rights, spec *redis.Spec) verdict {
	known := a.known[who]
	if known == nil { // the rights are not those of a configured token
		return a.judge(who, spec)
	}
	old := known.Load()
	if v, ok := (*old)[spec]; ok {
		return v
	}
	v := a.judge(who, spec)
	a.cfg.Learned(spec)
	fresh := verdicts{}
	if len(*old) < maxVerdicts {
		maps.Copy(fresh, *old)
	}
	fresh[spec] = v
	// If another goroutine stored a verdict meanwhile, this one is found again at the next request.
	known.CompareAndSwap(old, &fresh)
	return v
}

// instead names what does the same as a command that is never allowed.
var instead = map[string]string{
	"multi": "; POST /multi-exec takes a transaction", "exec": "; POST /multi-exec takes a transaction",
	"discard": "; POST /multi-exec takes a transaction", "watch": "; a script or If-Match of /v1/keys compares and sets",
	"subscribe": "; GET /subscribe/CHANNEL streams messages", "psubscribe": "; GET /psubscribe/PATTERN streams messages",
	"monitor": "; GET /monitor streams commands", "auth": "; a request brings its token along",
	"select": "; the database is the node's configuration",
}

// judge decides what holds for a command whatever its arguments are.
func (a *Authorizer) judge(who *token.Rights, spec *redis.Spec) verdict {
	name, dangerous := spec.Name, spec.Dangerous || spec.Admin
	rule, why := commands.Judge(commands.Command{
		Name: name, Container: spec.Container(), Dangerous: dangerous, Blocking: spec.Blocking, Stateful: spec.Stateful,
	}, a.cfg.InStack)
	asks := rule == commands.Asks && !token.Names(a.allow, name, spec.Categories)
	switch {
	case rule == commands.Never:
		return verdict{err: refused(name, why+instead[name])}
	case commands.RefusedScript(a.cfg.Scripts, name) != "":
		return verdict{err: refused(name, commands.RefusedScript(a.cfg.Scripts, name)+a.scriptsHint())}
	case asks && (dangerous || !spec.Blocking):
		return verdict{err: a.notAllowed(name, why)}
	case !who.Command(name, readable(spec), spec.Categories):
		return verdict{err: noCommand(name)}
	case slices.Contains(spec.Categories, "scripting") && !who.Limited():
		if err := a.mayScript(who); err != nil {
			return verdict{err: err}
		}
	}
	v := verdict{limited: who.Limited(), particular: commands.HasRefusedWords(name)}
	if asks {
		v.waits = a.notAllowed(name, why)
	}
	return v
}

// mayScript returns why a token may use no scripts, or nil. Nobody can see beforehand what a script
// does, so Redis keeps it to what the token may do, by the rights of the Redis user that runs it.
// There is one such user for tokens that may write and one for tokens that may only read. A token
// that may do less than these users, such as one without GET, cannot have scripts.
func (a *Authorizer) mayScript(who *token.Rights) error {
	switch {
	case who == nil:
		return nil
	case !who.AllBut(func(name string) bool { return commands.InNoScript(name, a.allow) }):
		return noScript
	case who.ReadOnly && a.cfg.ReadScriptUser, !who.ReadOnly && (a.cfg.ScriptUser || a.cfg.ScriptsAnyway):
		return nil
	}
	return noScriptUser
}

// scriptsHint returns how scripts are allowed.
func (a *Authorizer) scriptsHint() string {
	if a.cfg.InStack {
		return " (`kv.scripts` in the stack file)"
	}
	return " (`holdfast web --scripts`)"
}

// readable reports whether a read-only token may use the command. SCAN and KEYS show what there is
// and cost much; Upstash's read-only tokens may not use them either. PING, ECHO and TIME touch no
// data, so Redis does not count them among its read-only commands.
func readable(spec *redis.Spec) bool {
	switch spec.Name {
	case "scan", "keys":
		return false
	case "ping", "echo", "time":
		return true
	}
	return spec.ReadOnly
}

// limit returns nil when a command touches only keys and channels with a prefix of its token.
func limit(who *token.Rights, spec *redis.Spec, cmd redis.Command) error {
	switch spec.Name {
	case "ping", "echo", "time", "command", "command|info", "command|docs", "command|count", "command|list":
		return nil // they touch no data
	case "publish", "spublish":
		if len(cmd) < 2 || !who.Key(cmd[1]) {
			return noChannel
		}
		return nil
	case "keys":
		if len(cmd) != 2 || !who.Pattern(cmd[1]) {
			return noKey
		}
		return nil
	case "scan":
		if !scansWithin(who, cmd) {
			return noKey
		}
		return nil
	case "sort", "sort_ro":
		// BY and GET read keys whose names come from the data, and Redis does not say which
		// argument is STORE's.
		for _, word := range cmd[min(2, len(cmd)):] {
			if slices.ContainsFunc([]string{"by", "get", "store"}, func(option string) bool { return strings.EqualFold(word, option) }) {
				return noKey
			}
		}
		if len(cmd) < 2 || !who.Key(cmd[1]) {
			return noKey
		}
		return nil
	}
	// A script may touch keys that it does not name. DBSIZE, RANDOMKEY, FLUSHALL and the like
	// concern all keys.
	if slices.Contains(spec.Categories, "scripting") {
		return noCommand(spec.Name)
	}

	keys, told := spec.Keys(cmd)
	if !told || len(keys) == 0 {
		return noCommand(spec.Name)
	}
	for _, key := range keys {
		if !who.Key(key) {
			return noKey
		}
	}
	return nil
}

// scansWithin reports whether a SCAN finds only keys that a token may use, because of its MATCH.
// Each option of SCAN has one value (Redis manual, SCAN).
func scansWithin(who *token.Rights, cmd redis.Command) bool {
	within := false
	for i := 2; i+1 < len(cmd); i += 2 {
		if strings.EqualFold(cmd[i], "match") {
			if !who.Pattern(cmd[i+1]) {
				return false
			}
			within = true
		}
	}
	return within
}

// PermitStream returns nil when a stream is allowed: SUBSCRIBE CHANNEL..., PSUBSCRIBE PATTERN... or
// MONITOR, none of which permit allows.
func (a *Authorizer) PermitStream(who *token.Rights, cmd redis.Command) error {
	name := strings.ToLower(cmd[0])
	if name == "monitor" {
		if a.cfg.InStack && !slices.Contains(a.allow, name) {
			_, why := commands.Named(name, false)
			return a.notAllowed(name, why)
		}
		// MONITOR shows every key and value, so the token has to have the right to all of them.
		if who != nil && (who.ReadOnly || who.Limited()) || !who.Command(name, true, []string{"admin", "slow", "dangerous"}) {
			return noCommand(name)
		}
		return nil
	}
	if why := commands.RefusedWords(name, cmd); why != "" {
		return refused(name, why)
	}
	// Listening counts as reading.
	if !who.Command(name, true, []string{"pubsub", "slow"}) {
		return noCommand(name)
	}
	for _, channel := range cmd[1:] {
		if name == "psubscribe" && !who.Pattern(channel) || name != "psubscribe" && !who.Key(channel) {
			return noChannel
		}
	}
	return nil
}

// refused returns the error of a command that nobody may use.
func refused(name, why string) error {
	return response.BadRequest(fmt.Sprintf("ERR '%s' is not allowed here: %s", response.ShownName(name), why))
}

// notAllowed returns the error of a command that has to be allowed by name.
func (a *Authorizer) notAllowed(name, why string) error {
	hint := fmt.Sprintf("`holdfast web --allow '%s'`", name)
	if a.cfg.InStack {
		written := name
		if strings.Contains(name, "|") {
			written = strconv.Quote(name)
		}
		hint = fmt.Sprintf("`kv.allow: [%s]` in the stack file", written)
	}
	return refused(name, why+" ("+hint+" allows it)")
}

// noCommand returns the error of a token without the right to a command. It, noKey and noChannel
// have Redis' own words for a user without the right, except that they speak of a token.
func noCommand(name string) error {
	return response.NewError(fasthttp.StatusForbidden, fmt.Sprintf("NOPERM this token has no permissions to run the '%s' command", response.ShownName(name)))
}

var (
	noScript     = response.NewError(fasthttp.StatusForbidden, "NOPERM this token has no permissions to run scripts or functions: they could use commands that its list of commands takes away")
	noScriptUser = response.NewError(fasthttp.StatusForbidden, "NOPERM this token has no permissions to run scripts or functions: there is no Redis user with its rights for them (`holdfast web --script-users`)")

	noKey     = response.NewError(fasthttp.StatusForbidden, "NOPERM this token has no permissions to access one of the keys used as arguments")
	noChannel = response.NewError(fasthttp.StatusForbidden, "NOPERM this token has no permissions to access one of the channels used as arguments")
)

// BodySender does what fair.Senders does, for a request of which only the header has come. Without tokens, all clients
// that come without a balancer count as one.
func (a *Authorizer) BodySender(h *fasthttp.RequestHeader) string {
	if a.cfg.Tokens != nil {
		_, query, _ := bytes.Cut(h.RequestURI(), []byte{'?'})
		who, err := a.Rights(h.Peek("Authorization"), query)
		if err != nil {
			return "" // the request will be refused
		}
		return who.Name
	}
	address, _ := a.senders.FromBalancer(h.Peek(fair.SourceHeader))
	return address
}

// TokenName is the key of the name of a request's token among the request's user values, for the
// log and for traces.
const TokenName = "holdfast-token"
