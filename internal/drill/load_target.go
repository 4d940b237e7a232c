package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/load"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// loadTarget is what a drill's clients reach: one application of kind kv, or URLs.
type loadTarget struct {
	app  string     // the application of kind kv whose answers are checked; empty: URLs are loaded
	urls []load.URL // their answers are not checked
	apps []string   // all applications that the load reaches, sorted
}

// loadTarget returns what the drill's clients reach in the declared stack.
func (c Config) loadTarget() (loadTarget, error) {
	if len(c.URLs) > 0 {
		return loadTargetOfURLs(c.Stack, c.URLs)
	}
	app, err := chooseKV(c.Stack, c.App)
	return loadTarget{app: app, apps: []string{app}}, err
}

// loadTargetOfURLs finds the applications that the URLs lead to.
func loadTargetOfURLs(s stack.Stack, urls []load.URL) (loadTarget, error) {
	target := loadTarget{urls: urls}
	for _, u := range urls {
		host := u.Host
		if host == "" {
			host = s.Entry.Listen
		}
		app := s.AppAt(u.Method, host, u.Path)
		if app == "" {
			return loadTarget{}, refusef("--url %q: the balancers answer that themselves (entry.statistics); give one that an application answers", u.Words())
		}
		if !slices.Contains(target.apps, app) {
			target.apps = append(target.apps, app)
		}
	}
	slices.Sort(target.apps)
	return target, nil
}

// promise returns what a fault promises to the load. For URLs it is weaker: the balancers send a
// user's request again only if no node took it, or if repeating it changes nothing, and only while
// no part of an answer has arrived. So requests under way at an injection may fail, and so may
// those sent to a hanging node until the balancers notice.
func (target loadTarget) promise(f fault) history.Promise {
	p := f.promise
	if len(target.urls) == 0 {
		return p
	}
	if p.Failed == history.Any { // a 503 may be the program's own: what it did is unknown
		p.Unknown = history.Any
	}
	for _, allowed := range []*history.Allowance{&p.Failed, &p.Unknown} {
		switch {
		case *allowed == history.Any || *allowed == history.CutOff:
		case f.hangs: // while Fault.DetectionDelay lasts
			*allowed = history.CutOff
		default:
			*allowed = history.InFlight
		}
	}
	return p
}

// chooseKV returns the application whose answers are checked: the one that was asked for, the only
// one of kind kv, or the one that the last route leads to.
func chooseKV(s stack.Stack, asked string) (string, error) {
	var all []string
	for _, name := range s.AppNames() {
		if s.Apps[name].Kind() == stack.KV {
			all = append(all, name)
		}
	}

	if asked != "" {
		app, there := s.Apps[asked]
		switch {
		case !there:
			return "", refusef("--app %s: the stack %s has no such application; it has %s", asked, s.Name, strings.Join(s.AppNames(), ", "))
		case app.Kind() != stack.KV:
			return "", refusef("--app %s: that is an application of kind %s, and a drill checks the answers of one of kind kv%s; to load it, for availability and latency alone, name its URLs: --url /PATH", asked, app.Kind(), listSuffix(all))
		}
		return asked, nil
	}

	switch {
	case len(all) == 0:
		return "", refusef("the stack %s has no application of kind kv, whose answers a drill could check; to load your own application, for availability and latency alone, name its URLs: --url /PATH", s.Name)
	case len(all) == 1:
		return all[0], nil
	}

	for _, r := range s.Routes {
		if r.IsDefault() && slices.Contains(all, r.App) {
			return r.App, nil
		}
	}
	return "", refusef("the stack %s has several applications of kind kv: say by --app which one to drill, %s", s.Name, strings.Join(all, " or "))
}

func listSuffix(kvs []string) string {
	if len(kvs) == 0 {
		return ""
	}
	return ": " + strings.Join(kvs, ", ")
}

// need is a set of things that a stack must have for a fault.
type need int

const (
	needWeb            need = 1 << iota // nodes of an application under load, run by this stack
	needRedis                           // Redis at all
	needReplica                         // Redis with a replica
	needSentinel                        // a Sentinel
	needKV                              // a load whose writes wait for replicas
	needReplicas                        // two replicas
	needScripts                         // scripts that read
	needWritingScripts                  // scripts that write
	needVirtual                         // a virtual address
	// needFailover is a Redis that can elect another master.
	needFailover = needReplica | needSentinel
	// anyRedis is set in whatever strikes Redis.
	anyRedis = needRedis | needReplica | needSentinel
)

// missingFor returns why a fault cannot strike what the load reaches; empty: it can.
func (target loadTarget) missingFor(s stack.Stack, f fault) string {
	here := slices.ContainsFunc(target.apps, func(name string) bool { return s.Apps[name].Nodes > 0 && s.Apps[name].Kind() != stack.Servers })
	switch {
	case f.needs&needWeb != 0 && !here:
		return fmt.Sprintf("it strikes nodes of %s, and the stack runs none of them", strings.Join(target.apps, ", "))
	case f.needs&anyRedis != 0 && !s.Redis.Enabled:
		return "it strikes Redis, and the stack has none"
	case f.needs&needReplica != 0 && s.Redis.Replicas == 0:
		return "it needs a replica, and the stack has none (redis.replicas)"
	case f.needs&needReplicas != 0 && s.Redis.Replicas < 2:
		return "it needs two replicas, and the stack has one (redis.replicas)"
	case f.needs&needSentinel != 0 && s.Redis.Sentinels == 0:
		return "it needs Sentinels, and the stack has none (redis.sentinels)"
	case f.needs&needVirtual != 0 && !s.Entry.Virtual.Enabled():
		return "it strikes the virtual address, and the stack has none (entry.virtual)"
	case f.needs&needKV != 0 && target.app == "":
		return "it needs the load on an application of kind kv, without --url"
	}
	if kv := s.Apps[target.app].KV; kv != nil &&
		(f.needs&needScripts != 0 && kv.Scripts == "off" || f.needs&needWritingScripts != 0 && kv.Scripts != "on") {
		return fmt.Sprintf("it is a script, and %s runs none of that kind (kv.scripts: %s)", target.app, kv.Scripts)
	}
	return ""
}

// setLoadTarget sets how the drill's clients reach their application.
func (s *supervisedStack) setLoadTarget(target loadTarget) {
	s.loads = target
	if value := plan.DrillHeader(s.spec, s.secrets, target.app); target.app != "" && value != "" {
		s.headers = map[string]string{plan.DrillHeaderName: value}
	}
	// Only nodes under load are asked for their in-sync replicas: a node learns of those from its
	// own writes alone.
	maps.DeleteFunc(s.metricsAddresses, func(node, _ string) bool {
		return !slices.ContainsFunc(target.apps, func(app string) bool { return slices.Contains(s.nodesOf(app), node) })
	})
}

// tryLimit limits how long trying every kind of request may take.
const tryLimit = 20 * time.Second

// tryRequests sends one request of each kind of the load. It refuses the drill if one of them is
// not answered by the application that it is meant for. A 502, 503 or 504 proves nothing about the
// application, so tryRequests repeats it.
func (s *supervisedStack) tryRequests(ctx context.Context, cfg load.Config) error {
	nodes, err := tryEachRequest(ctx, cfg, s.loads.app)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		if !slices.Contains(s.nodesOf(s.loads.app), node) {
			return refusef("the drill's requests reach %q, which is no node of %s: the balancers do not know the drill's secret; stand the stack up again with 'holdfast up -d', so that they do", node, s.loads.app)
		}
	}
	return nil
}

// tryEachRequest is tryRequests for an application, or for URLs. It returns the names of the nodes
// that answered.
func tryEachRequest(ctx context.Context, cfg load.Config, app string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	nodes, err := load.Try(ctx, cfg)
	var refused *load.RefusedError
	for errors.As(err, &refused) && refused.Unavailable() && sleep(ctx, time.Second) == nil {
		nodes, err = load.Try(ctx, cfg)
	}
	switch {
	case errors.As(err, &refused) && refused.Status == 0:
		return nil, fmt.Errorf("the entry does not answer: %w", err)
	case errors.As(err, &refused) && refused.Unavailable() && app != "":
		return nil, fmt.Errorf("the application %s does not answer; nothing was broken: %w", app, err)
	case errors.As(err, &refused) && app == "":
		return nil, refusef("%w: nothing was broken; name URLs that are answered well, or the status that you expect, such as --url %q", err, refused.Request+" "+strconv.Itoa(refused.Status))
	case errors.As(err, &refused) && refused.Unauthorized():
		return nil, refusef("the application %s asks for a token that may read and write the keys holdfast-drill:* (%v); give one with --token-file", app, err)
	case errors.As(err, &refused):
		return nil, refusef("the application %s does not do what a drill needs of it: %v; nothing was broken%s", app, err, staleAdvice(cfg, refused))
	}
	return nodes, err
}

// staleAdvice returns advice if the balancers may be too old: an older Holdfast did not configure
// them to lead a drill to its application.
func staleAdvice(cfg load.Config, refused *load.RefusedError) string {
	if len(cfg.Headers) > 0 && refused.Status != http.StatusBadRequest {
		return "; if the stack was stood up by an older version of Holdfast, take it down and stand it up again"
	}
	return ""
}
