package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Sizes of values, in bytes.
const (
	smallValue = 100
	largeValue = 10 << 10
)

// pipelined is the number of commands in one pipeline.
const pipelined = 32

// op is the operation that a case measures.
type op string

// The operations.
const (
	get      op = "GET"
	set      op = "SET"
	pipeGets op = "pipeline of 32 GETs"
	pipeSets op = "pipeline of 32 SETs"
)

// writes reports whether the operation writes.
func (o op) writes() bool { return o == set || o == pipeSets }

// commands returns the number of commands in one request.
func (o op) commands() int {
	if o == pipeGets || o == pipeSets {
		return pipelined
	}
	return 1
}

// exchange is a request and the body of the right answer.
type exchange struct {
	request []byte
	want    string
}

// subject is one way to use a peer.
type subject struct {
	name, peer string
	what       string // for the report; empty: same as the peer's
	// make returns a request for each operation that the subject has, for keys with values of that
	// size.
	make map[op]func(keys []string, size int) exchange
	// fixed is true for a server without a store.
	fixed bool
}

// key returns the n-th key of an operation. Keys that are written are never read by another
// operation.
func key(o op, size, n int) string {
	k := prefixOf(size) + strconv.Itoa(n)
	if o.writes() {
		k = "set-" + k
	}
	return k
}

func prefixOf(size int) string { return "v" + strconv.Itoa(size) + "-" }

func value(key string, size int) string { return strings.Repeat(key+".", size/len(key)+1)[:size] }

// keysOf returns how many keys a load uses in turn.
func keysOf(size int) int {
	if size == largeValue {
		return 128
	}
	return 1024
}

// http returns a request as bytes.
func http(method, path, body string, headers ...string) []byte {
	b := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: localhost\r\n", method, path)
	for _, h := range headers {
		b = append(b, h+"\r\n"...)
	}
	if method != "GET" {
		b = fmt.Appendf(b, "Content-Length: %d\r\n", len(body))
	}
	return append(append(b, "\r\n"...), body...)
}

// sourceGet and sourceSet use the routes of the source, the tutorial's web application.
func sourceGet(headers ...string) func([]string, int) exchange {
	return func(keys []string, size int) exchange {
		return exchange{http("GET", "/get?key="+keys[0], "", headers...), value(keys[0], size)}
	}
}

func sourceSet(headers ...string) func([]string, int) exchange {
	return func(keys []string, size int) exchange {
		v := value(keys[0], size)
		return exchange{http("GET", "/set?key="+keys[0]+"&value="+v, "", headers...), "OK. We have set " + keys[0] + " to be " + v}
	}
}

func fixedGet(headers ...string) func([]string, int) exchange {
	return func(keys []string, size int) exchange {
		return exchange{http("GET", "/get?key="+keys[0], "", headers...), fixedValue(size)}
	}
}

// pipeline is a pipeline request of Upstash's REST API.
func pipeline(o op) func([]string, int) exchange {
	return func(keys []string, size int) exchange {
		var commands, results []string
		for _, k := range keys {
			if o == pipeGets {
				commands = append(commands, fmt.Sprintf(`["GET",%q]`, k))
				results = append(results, fmt.Sprintf(`{"result":%q}`, value(k, size)))
			} else {
				commands = append(commands, fmt.Sprintf(`["SET",%q,%q]`, k, value(k, size)))
				results = append(results, `{"result":"OK"}`)
			}
		}
		body := "[" + strings.Join(commands, ",") + "]"
		return exchange{http("POST", "/pipeline", body, "Content-Type: application/json"), "[" + strings.Join(results, ",") + "]"}
	}
}

// restGet and restSet are single commands of Upstash's REST API.
func restGet(keys []string, size int) exchange {
	return exchange{http("GET", "/get/"+keys[0], ""), fmt.Sprintf(`{"result":%q}`, value(keys[0], size))}
}

func restSet(keys []string, size int) exchange {
	return exchange{http("POST", "/set/"+keys[0], value(keys[0], size)), `{"result":"OK"}`}
}

// webdisGet asks for the plain value: the suffix chooses the format.
func webdisGet(keys []string, size int) exchange {
	return exchange{http("GET", "/GET/"+keys[0]+".txt", ""), value(keys[0], size)}
}

// webdisSet puts the value into the path, or into the body if it is large.
func webdisSet(keys []string, size int) exchange {
	v := value(keys[0], size)
	if size == largeValue {
		return exchange{http("PUT", "/SET/"+keys[0], v), `{"SET":[true,"OK"]}`}
	}
	return exchange{http("GET", "/SET/"+keys[0]+"/"+v, ""), `{"SET":[true,"OK"]}`}
}

func nginxSet(keys []string, size int) exchange {
	return exchange{http("GET", "/set?key="+keys[0]+"&value="+value(keys[0], size), ""), "OK"}
}

type requestMakers = map[op]func([]string, int) exchange

// subjects are all ways to use the peers, in the order of the report.
var subjects = []subject{
	{name: "holdfast", peer: "holdfast", what: "/get?key=K, /set?key=K&value=V, POST /pipeline", make: requestMakers{
		get: sourceGet(), set: sourceSet(), pipeGets: pipeline(pipeGets), pipeSets: pipeline(pipeSets)}},
	{name: "holdfast-rest", peer: "holdfast", what: "GET /get/K, POST /set/K", make: requestMakers{get: restGet, set: restSet}},
	{name: "holdfast-cached", peer: "holdfast", what: "Holdfast-Read: cached", make: requestMakers{get: sourceGet("Holdfast-Read: cached")}},
	{name: "holdfast-once", peer: "holdfast", what: "a new Idempotency-Key with each write", make: requestMakers{set: sourceSet("Idempotency-Key: @ONCE@")}},
	{name: "holdfast-async", peer: "holdfast", what: "Holdfast-Write: async: the master alone", make: requestMakers{set: sourceSet("Holdfast-Write: async")}},
	{name: "webdis", peer: "webdis", make: requestMakers{get: webdisGet, set: webdisSet}},
	{name: "nginx", peer: "nginx", make: requestMakers{get: sourceGet(), set: nginxSet}},
	{name: "gunicorn", peer: "gunicorn", make: requestMakers{get: sourceGet(), set: sourceSet()}},
	{name: "flask", peer: "flask", make: requestMakers{get: sourceGet(), set: sourceSet()}},
	{name: "ceiling", peer: "ceiling", fixed: true, make: requestMakers{get: fixedGet()}},
	{name: "ceiling-cached", peer: "ceiling", what: "the same for requests and answers with the header Holdfast-Read, as those of holdfast-cached have it", fixed: true, make: requestMakers{get: fixedGet("Holdfast-Read: cached")}},
	{name: "haproxy", peer: "haproxy", fixed: true, make: requestMakers{get: fixedGet()}},
}

// kind is the way in which a case is measured.
type kind string

// The kinds of case.
const (
	closed kind = "closed loop"
	open   kind = "open loop"
	idle   kind = "idle connections"
)

// scenario is one case: which operation is measured, and how.
type scenario struct {
	name        string
	kind        kind
	op          op
	size        int
	connections int
	behind      bool     // through HAProxy
	subjects    []string // the subjects it is for; those without the operation are left out
}

// The subjects of most cases. The variants, and the source's application with its few thousand
// requests per second, are only in the main cases.
var (
	fast = []string{"holdfast", "holdfast-rest", "holdfast-cached", "holdfast-once", "holdfast-async", "webdis", "nginx", "ceiling"}
	some = []string{"holdfast", "holdfast-cached", "webdis", "nginx", "ceiling"}
	slow = []string{"gunicorn", "flask"}
)

var scenarios = []scenario{
	{"get-64", closed, get, smallValue, 64, false, slices.Concat(slow, fast, []string{"ceiling-cached"})},
	{"get-1", closed, get, smallValue, 1, false, some},
	{"get-2000", closed, get, smallValue, 2000, false, some},
	{"get-10k", closed, get, largeValue, 64, false, some},
	{"set-64", closed, set, smallValue, 64, false, append(slow, fast...)},
	{"set-1", closed, set, smallValue, 1, false, some},
	{"set-2000", closed, set, smallValue, 2000, false, some},
	{"set-10k", closed, set, largeValue, 64, false, some},
	{"pipeline-get", closed, pipeGets, smallValue, 64, false, some},
	{"pipeline-set", closed, pipeSets, smallValue, 64, false, some},
	{"haproxy-get-64", closed, get, smallValue, 64, true, append([]string{"gunicorn", "flask", "haproxy"}, some...)},
	{"haproxy-get-2000", closed, get, smallValue, 2000, true, append([]string{"haproxy"}, some...)},
	{"haproxy-get-8000", closed, get, smallValue, 8000, true, []string{"holdfast", "ceiling"}},
	{"haproxy-set-64", closed, set, smallValue, 64, true, append(slow, some...)},
	{"haproxy-set-2000", closed, set, smallValue, 2000, true, []string{"holdfast"}},
	{"haproxy-set-8000", closed, set, smallValue, 8000, true, []string{"holdfast"}},
	{"rate-get-64", open, get, smallValue, 64, false, some},
	{"rate-get-8000", open, get, smallValue, 8000, false, some},
	{"rate-set-64", open, set, smallValue, 64, false, some},
	{"idle-2000", idle, get, smallValue, 2000, false, some},
}

// crowded reports whether so many connections go through the balancers that opening them takes a
// good part of a second.
func (c scenario) crowded() bool { return c.behind && c.connections >= 2000 }

func caseNames() []string {
	var names []string
	for _, c := range scenarios {
		names = append(names, c.name)
	}
	return names
}

// chosen returns the cases with these names. A name that no case has selects the cases that begin
// with it.
func chosen(names []string) []scenario {
	if len(names) == 0 {
		return scenarios
	}
	var found []scenario
	for _, c := range scenarios {
		if slices.ContainsFunc(names, func(name string) bool {
			return c.name == name || !slices.Contains(caseNames(), name) && strings.HasPrefix(c.name, name)
		}) {
			found = append(found, c)
		}
	}
	return found
}

// subjectsOf returns the subjects of a case, on the peers that were asked for.
func (c scenario) subjectsOf(only []string) []subject {
	var found []subject
	for _, s := range subjects {
		if c.kind == idle && s.name == "holdfast-cached" {
			continue // the same server
		}
		if slices.Contains(c.subjects, s.name) && s.make[c.op] != nil && (len(only) == 0 || slices.Contains(only, s.peer)) {
			found = append(found, s)
		}
	}
	return found
}

// exchanges returns the requests that a load sends in turn.
func (c scenario) exchanges(s subject) []exchange {
	var all []exchange
	n := keysOf(c.size)
	for i := range n {
		var keys []string
		for j := range c.op.commands() {
			keys = append(keys, key(c.op, c.size, (i+j)%n))
		}
		all = append(all, s.make[c.op](keys, c.size))
	}
	return all
}
