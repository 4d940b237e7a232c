// Package routes is the table of what a web node serves: the paths, the methods of each, what counts
// it in the metrics, whether an event loop may answer it, and what a balancer has to know about it.
// The HTTP server, the event loops, the metrics and the configuration of the balancers all use this
// table. A test compares it with the description in OpenAPI.
//
// Not here: the handlers (package web has one for each line), and the parameters of a route.
package routes

import (
	"bytes"
	"slices"
	"strings"
)

// Methods are the methods that are counted separately; the first one stands for all others.
var Methods = [...]string{"other", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"}

// Indexes in Methods.
const (
	Get = iota + 1
	Head
	Post
	Put
	Delete
)

// Number returns the index of a method.
func Number(method []byte) int {
	for i := 1; i < len(Methods); i++ {
		if string(method) == Methods[i] {
			return i
		}
	}
	return 0
}

// MethodSet is a set of methods, a bit for each index in Methods.
type MethodSet uint8

// Has reports whether a method is in the set.
func (s MethodSet) Has(method int) bool { return s&(1<<method) != 0 }

// String returns the methods as the header Allow has them (RFC 9110, section 10.2.1).
func (s MethodSet) String() string {
	var all []string
	for i, name := range Methods {
		if s.Has(i) {
			all = append(all, name)
		}
	}
	return strings.Join(all, ", ")
}

// The sets of methods that routes have. HEAD is GET without the body.
const (
	getHead  MethodSet = 1<<Get | 1<<Head
	getPost  MethodSet = 1<<Get | 1<<Post
	postPut  MethodSet = 1<<Post | 1<<Put
	commands           = getHead | postPut
	resource           = getHead | 1<<Put | 1<<Delete
)

// Form is how a command comes in a request that an event loop may answer. The response has the same
// form.
type Form uint8

// The values of Form.
const (
	NotOnLoop Form = iota // only the HTTP server answers it
	InPath
	InBody
	TutorialGet // /get?key=K
	TutorialSet // /set?key=K&value=V
)

// IsCommand reports whether a command comes as such, and not by the tutorial's routes.
func (f Form) IsCommand() bool { return f == InPath || f == InBody }

// Words are the form of the errors of a route.
type Words uint8

// The values of Words.
const (
	RedisError Words = iota // as JSON, beginning like Redis' own errors
	PlainText               // beginning like Redis' own errors
	Sentence                // as JSON
)

// Route is a line of the table.
type Route struct {
	// Path is the path. A parameter at its end, in braces, stands for everything that may follow,
	// slashes too. The case of the path's first segment makes no difference, unless Exact is set.
	Path string
	// Exact: only this path, written like this. A path that differs is a command, if there is no
	// other line for it.
	Exact bool
	// NoBody: a request with a body is another route's.
	NoBody bool

	Methods MethodSet
	Words   Words
	// Class counts the requests in the metrics. Commands have classes of their own, by their kind of
	// data; Class is then for requests that do not get as far.
	Class string
	// Loop says how an event loop answers the requests, if it may.
	Loop Form
	// Open: the request needs no token, and may come from any page and for any host. Balancers and
	// supervisors ask such routes. They are answered also while there is no master.
	Open bool
	// Stream: the response is a stream of events. A balancer may not repeat such a request, and it
	// takes no place of the requests that are answered soon.
	Stream bool
	// Lasting are the names of the parameters that make the response last like a stream.
	Lasting []string

	// Missing is the text of the error if there is nothing at the path. Such a line has no handler.
	Missing string
	// Bad: the status of Missing is 400, not 404.
	Bad bool
	// Hint is the text of the error, with status 400, if somebody looks at the path with GET or HEAD
	// although neither is among the methods.
	Hint string

	Number int // the place in Table

	name string // the first segment of Path
	rest string // what follows it, up to a parameter
	open bool   // Path ends with a parameter
}

const (
	nothing   = "ERR there is nothing here"
	noCommand = "ERR there is no command; it goes into the path, as /set/KEY/VALUE or /get/KEY, or as a JSON array into the body of POST /"
)

// Table has every route. The first line that a request matches counts; the last line has what is in
// no other. A new route is a line here, a handler in package web (handlers.go), and its description
// in openapi.json.
var Table = made([]Route{
	{Path: "/healthz/live", Methods: getHead, Class: "healthz", Open: true},
	{Path: "/healthz/ready", Methods: getHead, Class: "healthz", Open: true},
	{Path: "/healthz/master", Methods: getHead, Class: "healthz", Open: true},
	{Path: "/healthz/{question}", Class: "healthz", Open: true, Words: PlainText, Missing: "There is nothing here; there are /healthz/live, /healthz/ready and /healthz/master."},

	{Path: "/get", Exact: true, NoBody: true, Methods: getHead, Class: "string", Loop: TutorialGet, Words: PlainText},
	{Path: "/set", Exact: true, NoBody: true, Methods: getPost, Class: "string", Loop: TutorialSet, Words: PlainText},
	{Path: "/", Methods: postPut, Class: "none", Loop: InBody, Hint: noCommand},
	{Path: "//{path}", Class: "none", Missing: noCommand, Bad: true},
	{Path: "/pipeline", Methods: postPut, Class: "pipeline"},
	{Path: "/multi-exec", Methods: postPut, Class: "multi-exec"},

	{Path: "/subscribe/{channels}", Methods: getPost, Class: "subscribe", Stream: true},
	{Path: "/psubscribe/{patterns}", Methods: getPost, Class: "subscribe", Stream: true},
	{Path: "/monitor", Methods: getPost, Class: "monitor", Stream: true},

	{Path: "/v1/keys", Exact: true, Methods: getHead, Class: "keys", Words: Sentence, Lasting: lasting},
	{Path: "/v1/keys/{key}", Exact: true, Methods: resource, Class: "keys", Words: Sentence, Lasting: lasting},
	{Path: "/v1/openapi.json", Exact: true, Methods: getHead, Class: "keys", Words: Sentence},
	{Path: "/v1/{path}", Class: "keys", Words: Sentence, Missing: "There is nothing here; /v1/openapi.json says what there is."},

	// Another listener serves these (observe.ServeAdmin). Here they are no commands either.
	{Path: "/metrics", Exact: true, Class: "none", Open: true, Missing: nothing},
	{Path: "/debug/{profile}", Exact: true, Class: "none", Open: true, Missing: nothing},

	{Path: "/{command}", Methods: commands, Class: "none", Loop: InPath},
})

// Parameters that make a response last.
const (
	Watch = "watch"
	Wait  = "wait"
)

var lasting = []string{Watch, Wait}

// These stand for requests that no line is for: unrouted for what has the name of a route and is
// written otherwise, pathless for what has no path at all.
var (
	command  = &Table[len(Table)-1]
	unrouted = &Route{Class: "none", Missing: nothing}
	pathless = &Route{Class: "none", Open: true, Missing: nothing}
)

// made returns lines in which everything is set that follows from their paths.
func made(lines []Route) []Route {
	for i := range lines {
		r := &lines[i]
		r.Number = i
		path, _, parameter := strings.Cut(r.Path, "{")
		r.name, r.rest, _ = strings.Cut(path[1:], "/")
		r.rest, r.open = path[1+len(r.name):], parameter
	}
	return lines
}

// family has the lines of one first segment.
type family struct {
	name  string
	lines []*Route
	// other has what is in none of the lines.
	other *Route
}

// families has the families by the first letter of their names.
var families = func() (all [256][]family) {
	for i := range Table[:len(Table)-1] {
		r := &Table[i]
		letter := letterOf(r.name)
		at := slices.IndexFunc(all[letter], func(f family) bool { return f.name == r.name })
		if at < 0 {
			at = len(all[letter])
			all[letter] = append(all[letter], family{name: r.name, other: command})
		}
		f := &all[letter][at]
		f.lines = append(f.lines, r)
		if !r.Exact {
			f.other = unrouted
		}
	}
	return all
}()

// letterOf returns the first letter of a name in lower case; 0 for an empty one.
func letterOf[T string | []byte](name T) byte {
	if len(name) == 0 {
		return 0
	}
	return lower(name[0])
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// Find returns the line of a path, which comes as the client wrote it. body: the request has a body
// that is not empty. It takes no memory, because event loops call it for each request.
func Find(path []byte, body bool) *Route {
	if len(path) == 0 || path[0] != '/' {
		return pathless
	}
	name := path[1:]
	if i := bytes.IndexByte(name, '/'); i >= 0 {
		name = name[:i]
	}
	of := families[letterOf(name)]
	for i := range of {
		if f := &of[i]; f.is(name) {
			return f.find(name, path[1+len(name):], body)
		}
	}
	return command
}

// is reports whether a first segment is the family's name, in whatever case.
func (f *family) is(name []byte) bool {
	if len(name) != len(f.name) {
		return false
	}
	for i, c := range name {
		if lower(c) != f.name[i] {
			return false
		}
	}
	return true
}

// find returns the line for a first segment, and what follows it.
func (f *family) find(name, rest []byte, body bool) *Route {
	for _, r := range f.lines {
		if r.matches(rest) && !(r.NoBody && body) && !(r.Exact && string(name) != r.name) {
			return r
		}
	}
	return f.other
}

// matches reports whether a line is for what follows the first segment.
func (r *Route) matches(rest []byte) bool {
	switch {
	case !r.open:
		return string(rest) == r.rest
	case len(rest) >= len(r.rest):
		return string(rest[:len(r.rest)]) == r.rest
	}
	// The parameter may be left out with the slash before it.
	return !r.Exact && len(rest) == len(r.rest)-1 && string(rest) == r.rest[:len(rest)]
}

// Streams returns how the paths of streams begin.
func Streams() []string {
	var all []string
	for i := range Table {
		if r := &Table[i]; r.Stream {
			all = append(all, "/"+r.name+r.rest)
		}
	}
	return all
}

// Answered returns how the paths begin that are answered also while there is no master.
func Answered() []string {
	var all []string
	for i := range Table {
		if r := &Table[i]; r.Open && r.Missing == "" && !slices.Contains(all, "/"+r.name+"/") {
			all = append(all, "/"+r.name+"/")
		}
	}
	return all
}

// Lasting returns the first segment of the paths whose responses last if a parameter is given, and
// the names of those parameters.
func Lasting() (name string, parameters []string) {
	for i := range Table {
		if r := &Table[i]; len(r.Lasting) > 0 {
			return r.name, r.Lasting
		}
	}
	return "", nil
}

// Classes returns the classes of the routes, in the table's order, without those of commands.
func Classes() []string {
	var all []string
	for i := range Table {
		if r := &Table[i]; r.Class != "none" && r.Class != "string" && !slices.Contains(all, r.Class) {
			all = append(all, r.Class)
		}
	}
	return all
}
