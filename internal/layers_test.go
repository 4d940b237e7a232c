// Package internal holds no code, only tests of the tree's structure: which package may import
// which, what the pure packages may not use, that every package has a comment, and that no file and
// no package is too long.
package internal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// module is the import path of the module.
const module = "holdfast"

// layers are the packages below internal/, from the top to the bottom. A package imports only
// packages below it. A new package needs a line here, and one in docs/architecture.md.
var layers = []string{
	"cli",       // one file per subcommand
	"examine",   // gathers the facts about a stack for doctor
	"drill",     // faults, and the verdict on them
	"load",      // paced clients
	"attack",    // clients that ask too much
	"history",   // recorded operations. Pure
	"metrics",   // the stack's figures for Prometheus
	"kubectl",   // a cluster of Kubernetes, by the program kubectl
	"control",   // HTTP on a unix socket: server and client
	"pod",       // what pods agree on before one starts its node
	"supervise", // carries a plan out
	"host",      // one host's process in a stack of several
	"agree",     // what the hosts agree on, by raft
	"agent",     // another host's machine, over one connection
	"release",   // copies of users' programs
	"backup",    // the format of backups, where they are kept, how one is verified
	"identity",  // the hosts' certificates, and how a host joins
	"push",      // another machine joins by ssh
	"encrypt",   // files encrypted with age
	"machine",   // one host: its nodes' files, processes, sockets, ports and logs
	"logs",      // the logs of the nodes
	"process",   // one child process
	"doctor",    // what is wrong with a stack. Pure
	"export",    // a plan in the form of other systems. Pure
	"plan",      // stack → files and processes. Pure
	"stack",     // the declared stack. Pure
	"haproxy",   // client of HAProxy's runtime socket

	"web",             // the web node
	"web/fasthandler", // commands on event loops
	"web/eventloop",   // connections: event loops, and the way to the HTTP server
	"web/keyspace",    // keys as resources, and who watches them
	"web/command",     // commands, pipelines and transactions
	"web/observe",     // metrics, access log, traces, health
	"web/sse",         // streams of server-sent events
	"web/auth",        // who may do what
	"web/consistency", // what a request's options mean
	"web/fair",        // what one client may take
	"web/urlquery",    // parameters and escapes of URLs
	"web/response",    // how results and errors are written
	"web/httpfast",    // plain HTTP/1.1 as bytes
	"web/routes",      // the table of routes. Pure

	"static", // the file server
	"token",  // who may do what. Pure

	"redis",           // the client
	"redis/cluster",   // requests to a Redis Cluster
	"redis/readpipe",  // reads on a connection that the caller polls
	"redis/replica",   // reads of replicas and of the cache
	"redis/commit",    // the group commit
	"redis/deadline",  // gives up operations whose time is over
	"redis/turns",     // which slow operation is next
	"redis/operation", // a request on its way to Redis
	"redis/scripts",   // what is kept of clients' scripts
	"redis/once",      // writes that happen once: records and scripts
	"redis/pubsub",    // what the master pushes
	"redis/admin",     // one process, asked and changed
	"redis/config",    // a client's settings
	"redis/discovery", // finds the master and follows it
	"redis/ack",       // when a write is acknowledged, a read answered. Pure
	"redis/election",  // who is the master. Pure
	"redis/rewrite",   // what clients see of names and cursors
	"redis/request",   // requests and their results
	"redis/cost",      // what a command that is not brief takes
	"redis/hashslot",  // which slot of a cluster a key is in
	"redis/command",   // what is known of Redis' commands
	"redis/conn",      // connections to nodes and Sentinels
	"redis/cache",     // values that a connection has read
	"redis/meter",     // what answers take of this process' memory
	"redis/outcome",   // what became of an operation or a command
	"redis/resp",      // Redis' protocol: replies, and bytes
	"redis/moment",    // points in time in atomics
	"redis/redistest", // real Redis servers for tests

	"socket",      // system calls that never wait
	"commands",    // which of Redis' commands clients may use. Pure
	"otlp",        // spans to a collector
	"isolate",     // this machine's network, cut for a time
	"listener",    // a listener whose connections are handed in
	"private",     // files that nobody else may change
	"certificate", // whether a certificate is fit for use
	"keypair",     // keys and certificates that are renewed in their files
	"hostname",    // the host names that a service answers to. Pure
	"servers",     // the server programs: versions, and whose data each can read. Pure
	"quote",       // makes foreign text safe for terminals, reports and shells. Pure
	"goldentest",  // golden files, for tests
	"needtest",    // what a test needs of the machine
	"kvdefault",   // what a web node's settings are by default. Pure
	"clock",       // waits for a time or a condition
	"yamltree",    // files of YAML, with the places of their keys. Pure
}

// pure are the packages that only compute: values in, values out.
var pure = []string{"history", "doctor", "export", "plan", "stack", "token", "quote", "commands", "hostname", "servers", "yamltree", "kvdefault", "redis/ack", "redis/election", "web/routes"}

// stateless are the packages that serve requests. They may not import, even indirectly, what knows
// about the stack (ofTheStack).
var (
	stateless   = []string{"web", "static"}
	ofTheStack  = []string{"control", "supervise", "logs", "process", "plan", "stack", "haproxy"}
	onlyImports = map[string]string{ // library → its only importer
		"github.com/redis/rueidis":  "internal/redis",
		"github.com/spf13/cobra":    "internal/cli",
		"filippo.io/age":            "internal/encrypt",
		"github.com/minio/minio-go": "internal/backup",

		"github.com/hashicorp/raft":     "internal/agree",
		"github.com/hashicorp/go-hclog": "internal/agree",
		"go.etcd.io/bbolt":              "internal/agree",
	}
)

// impure are imports that give access to the disk, the network, other processes or randomness.
var impure = []string{
	"os", "os/exec", "os/signal", "os/user", "syscall", "golang.org/x/sys/unix", "io/ioutil",
	"net/http", "crypto/rand", "math/rand", "math/rand/v2", "log", "log/slog",
}

// impureNames are the names that a pure package may not use of a package that it may import.
var impureNames = map[string][]string{
	"time":          {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer"},
	"path/filepath": {"Abs", "EvalSymlinks", "Glob", "Walk", "WalkDir"},
}

// pureNetNames are the only names that a pure package may use of package net.
var pureNetNames = []string{"SplitHostPort", "JoinHostPort", "ParseIP", "ParseCIDR", "IP", "IPNet", "IPv4", "AddrError", "ParseError"}

// noName are package names that do not say what a package contains.
var noName = []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "types"}

// maxLines is the greatest length of a source file, and maxPackage that of a package, without
// tests and without what programs have generated.
const (
	maxLines   = 550
	maxPackage = 3000
)

// largePackages are the packages that are longer than maxPackage, with the most lines that each
// may have: about as many as it has. Divide a package rather than raise its ceiling. When it has
// become shorter by lowerBy lines or more, the ceiling has to follow.
var largePackages = map[string]int{
	"bench":              3154,
	"internal/cli":       11642,
	"internal/drill":     11580,
	"internal/history":   3083,
	"internal/host":      3213,
	"internal/plan":      5151,
	"internal/stack":     5891,
	"internal/supervise": 20325,
}

// lowerBy is how many lines a large package may be shorter than its ceiling, and one less.
const lowerBy = 100

// source is one Go file.
type source struct {
	path  string // such as internal/plan/plan.go
	dir   string
	test  bool
	made  bool // generated by a program; its source is what people read
	file  *ast.File
	lines int
	fset  *token.FileSet
}

func (s source) imports() []string {
	var paths []string
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// uses returns where the file uses names of an imported package, as "line: time.Now".
func (s source) uses(pkg string, is func(name string) bool) []string {
	local := ""
	for _, spec := range s.file.Imports {
		if spec.Path.Value != strconv.Quote(pkg) {
			continue
		}
		if local = path.Base(pkg); spec.Name != nil {
			local = spec.Name.Name
		}
	}
	if local == "" {
		return nil
	}
	var found []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == local && is(sel.Sel.Name) {
			found = append(found, fmt.Sprintf("%s:%d uses %s.%s", s.path, s.fset.Position(sel.Pos()).Line, path.Base(pkg), sel.Sel.Name))
		}
		return true
	})
	return found
}

// read parses every Go file of the tree, whatever its build tags.
func read(tree fs.FS) ([]source, error) {
	var sources []source
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		sources = append(sources, source{
			path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), made: ast.IsGenerated(file),
			file: file, lines: strings.Count(string(text), "\n"), fset: fset,
		})
		return nil
	})
	return sources, err
}

// complaints returns every breach of a rule in the sources.
func complaints(sources []source) []string {
	var wrong []string
	for _, rule := range []func([]source) []string{
		knownPackages, downwards, throughMachines, statelessReach, purity, soleImporters, docs, lengths, productionOnly, smallProgram,
	} {
		wrong = append(wrong, rule(sources)...)
	}
	return wrong
}

// layer returns the name of the layer that a directory belongs to: "plan" for internal/plan/x. It
// returns "" for a directory outside internal/.
func layer(dir string) string {
	rest, below := strings.CutPrefix(dir, "internal/")
	if !below {
		return ""
	}
	for name := rest; name != "."; name = path.Dir(name) {
		if slices.Contains(layers, name) {
			return name
		}
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// divided reports whether a layer has layers inside.
func divided(name string) bool {
	return slices.ContainsFunc(layers, func(l string) bool { return strings.HasPrefix(l, name+"/") })
}

// importedLayer is layer for an import path.
func importedLayer(importPath string) string {
	dir, ours := strings.CutPrefix(importPath, module+"/")
	if !ours {
		return ""
	}
	return layer(dir)
}

func knownPackages(sources []source) []string {
	var wrong []string
	seen := map[string]bool{}
	for _, s := range sources {
		name := layer(s.dir)
		placed := slices.Contains(layers, name) && (s.dir == "internal/"+name || !divided(name))
		if !seen[s.dir] && name != "" && !placed {
			wrong = append(wrong, s.dir+" is not in the house yet: give it its place in the list of layers in internal/layers_test.go, and its line in docs/architecture.md")
		}
		if !seen[s.dir] && slices.Contains(noName, path.Base(s.dir)) {
			wrong = append(wrong, s.dir+" has a name that does not say what lives there")
		}
		seen[s.dir] = true
	}
	return wrong
}

// downwards also applies to tests: they may not need more than their package.
func downwards(sources []source) []string {
	var wrong []string
	for _, s := range sources {
		from := slices.Index(layers, layer(s.dir))
		if from < 0 {
			continue
		}
		for _, p := range s.imports() {
			to := slices.Index(layers, importedLayer(p))
			if to >= 0 && to < from {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, which stands above it (the list of layers in internal/layers_test.go)", s.path, p))
			}
			if strings.HasPrefix(p, module+"/cmd/") {
				wrong = append(wrong, fmt.Sprintf("%s imports the program %s", s.path, p))
			}
		}
	}
	return wrong
}

func statelessReach(sources []source) []string {
	direct := map[string][]string{}
	for _, s := range sources {
		if s.test {
			continue
		}
		for _, p := range s.imports() {
			if to := importedLayer(p); to != "" {
				direct[layer(s.dir)] = append(direct[layer(s.dir)], to)
			}
		}
	}
	var wrong []string
	for _, from := range stateless {
		reached := map[string]bool{}
		next := []string{from}
		for len(next) > 0 {
			at := next[0]
			next = next[1:]
			if reached[at] {
				continue
			}
			reached[at] = true
			next = append(next, direct[at]...)
		}
		for _, to := range ofTheStack {
			if reached[to] {
				wrong = append(wrong, fmt.Sprintf("internal/%s reaches internal/%s: it serves requests and may not know of the stack", from, to))
			}
		}
	}
	return wrong
}

// thisMachine are imports that give access to this machine's files, processes and logs.
var thisMachine = []string{
	"os", "os/exec", "golang.org/x/sys/unix",
	module + "/internal/process", module + "/internal/private", module + "/internal/logs",
}

// thisMachineNames are names that do the same, in packages that have others as well.
var thisMachineNames = map[string][]string{
	"net":           {"Dial", "DialTimeout", "DialTCP", "DialUnix", "Dialer", "Listen", "ListenTCP", "ListenUnix", "ListenConfig", "Interfaces"},
	"path/filepath": {"Abs", "EvalSymlinks", "Glob", "Walk", "WalkDir"},
	"syscall":       {"Kill", "Open", "Stat", "Exec", "ForkExec", "Wait4", "Flock", "Unlink", "Mkdir", "Rename"},
}

// atHome are the files of package supervise that work in the supervisor's own state directory, or
// check what the stack file names on its machine. The other files work on a host of the stack,
// which may be another machine, so they have to use package machine.
var atHome = map[string]string{
	"state.go":         "the state directory and its lock",
	"record.go":        "changes that have ended",
	"restore.go":       "the data of a backup, and where it goes while nothing runs",
	"backup.go":        "backups are kept where the supervisor is",
	"backup_source.go": "a backup is taken without a supervisor, too",
	"backup_store.go":  "backups are kept where the supervisor is",
	"shutdown.go":      "what is left of a stack is removed",
	"logs.go":          "the log writer, which a host has of its own",
	"cutoff.go":        "each host looks for itself whether it is cut off",
	"fenceguard.go":    "the guard is a child of the supervisor",
	"references.go":    "what the stack file names",
	"releases.go":      "copies of what the stack file names",
	"inspect.go":       "a stack seen from outside",
	"ports.go":         "ports are claimed among the supervisors of one machine",
	"limit_other.go":   "the supervisor's own limits, seen from outside",
	"limit_linux.go":   "the supervisor's own limits, seen from outside",
}

// throughMachines: what is done to the hosts of a stack has to go through package machine.
func throughMachines(sources []source) []string {
	var wrong []string
	for _, s := range sources {
		if s.test || s.dir != "internal/supervise" || atHome[path.Base(s.path)] != "" {
			continue
		}
		for _, p := range s.imports() {
			if slices.Contains(thisMachine, p) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: what is done to a host of the stack goes through package machine (atHome in internal/layers_test.go)", s.path, p))
			}
		}
		for pkg, names := range thisMachineNames {
			for _, use := range s.uses(pkg, func(name string) bool { return slices.Contains(names, name) }) {
				wrong = append(wrong, use+": what is done to a host of the stack goes through package machine (atHome in internal/layers_test.go)")
			}
		}
	}
	return wrong
}

func purity(sources []source) []string {
	var wrong []string
	for _, s := range sources {
		if s.test || !slices.Contains(pure, layer(s.dir)) {
			continue
		}
		for _, p := range s.imports() {
			to := importedLayer(p)
			if slices.Contains(impure, p) || to != "" && !slices.Contains(pure, to) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, and %s is pure: no disk, no network, no clock, no chance", s.path, p, s.dir))
			}
		}
		uses := s.uses("net", func(name string) bool { return !slices.Contains(pureNetNames, name) })
		for pkg, names := range impureNames {
			uses = append(uses, s.uses(pkg, func(name string) bool { return slices.Contains(names, name) })...)
		}
		for _, use := range uses {
			wrong = append(wrong, fmt.Sprintf("%s, and %s is pure: no disk, no network, no clock, no chance", use, s.dir))
		}
	}
	return wrong
}

// soleImporters only applies to the program: a test may ask a server in its own way.
func soleImporters(sources []source) []string {
	var wrong []string
	for _, s := range sources {
		if s.test {
			continue
		}
		for _, p := range s.imports() {
			for library, only := range onlyImports {
				if (p == library || strings.HasPrefix(p, library+"/")) && s.dir != only && !strings.HasPrefix(s.dir, only+"/") {
					wrong = append(wrong, fmt.Sprintf("%s imports %s, which only %s may", s.path, p, only))
				}
			}
		}
	}
	return wrong
}

// docs: every package has exactly one package comment, which begins with its name.
func docs(sources []source) []string {
	found := map[string][]source{}
	named := map[string]string{}
	for _, s := range sources {
		if name := s.file.Name.Name; !strings.HasSuffix(name, "_test") {
			named[s.dir] = name
		}
	}
	for _, s := range sources {
		name := s.file.Name.Name
		if named[s.dir] == "" {
			named[s.dir] = name // the directory has only external tests
		}
		if s.file.Doc != nil && name == named[s.dir] {
			found[s.dir] = append(found[s.dir], s)
		}
	}
	var wrong []string
	for dir, name := range named {
		begin := "Package " + name + " "
		if name == "main" {
			begin = "Command " + path.Base(dir) + " "
		}
		switch comments := found[dir]; {
		case len(comments) == 0:
			wrong = append(wrong, fmt.Sprintf("%s has no package comment: say what lives there and what does not, beginning with %q", dir, begin))
		case len(comments) > 1:
			wrong = append(wrong, fmt.Sprintf("%s has package comments in %s and %s; one place is enough", dir, comments[0].path, comments[1].path))
		case !strings.HasPrefix(comments[0].file.Doc.Text(), begin):
			wrong = append(wrong, fmt.Sprintf("the package comment in %s does not begin with %q", comments[0].path, begin))
		}
	}
	slices.Sort(wrong)
	return wrong
}

func lengths(sources []source) []string {
	var wrong []string
	for _, s := range sources {
		if !s.test && !s.made && s.lines > maxLines {
			wrong = append(wrong, fmt.Sprintf("%s has %d lines; more than %d want two files", s.path, s.lines, maxLines))
		}
	}
	return wrong
}

// sizes holds packages to maxPackage, and the large ones to their ceilings.
func sizes(sources []source, ceilings map[string]int) []string {
	lines := map[string]int{}
	for _, s := range sources {
		if !s.test && !s.made {
			lines[s.dir] += s.lines
		}
	}
	var wrong []string
	for dir, n := range lines {
		ceiling, large := ceilings[dir]
		switch {
		case !large && n > maxPackage:
			wrong = append(wrong, fmt.Sprintf("%s has %d lines; more than %d want two packages", dir, n, maxPackage))
		case large && n > ceiling:
			wrong = append(wrong, fmt.Sprintf("%s has %d lines, and %d are the most: divide it (largePackages in internal/layers_test.go)", dir, n, ceiling))
		case large && n <= maxPackage:
			wrong = append(wrong, fmt.Sprintf("%s has only %d lines: take it out of largePackages in internal/layers_test.go", dir, n))
		case large && n <= ceiling-lowerBy:
			wrong = append(wrong, fmt.Sprintf("%s has only %d lines: lower its ceiling of %d in largePackages in internal/layers_test.go", dir, n, ceiling))
		}
	}
	slices.Sort(wrong)
	return wrong
}

// forTests reports whether a package exists only for tests, like httptest.
func forTests(dir string) bool {
	return strings.HasSuffix(dir, "test")
}

// productionOnly: the program contains nothing for tests, and reads the environment only where it
// parses flags.
func productionOnly(sources []source) []string {
	var wrong []string
	for _, s := range sources {
		if s.test || !strings.HasPrefix(s.dir, "internal/") && !strings.HasPrefix(s.dir, "cmd/") {
			continue
		}
		for _, p := range s.imports() {
			machinery := p == "testing" || strings.HasPrefix(p, "testing/") || strings.HasPrefix(p, module+"/") && forTests(p)
			if machinery && !forTests(s.dir) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, and is no test", s.path, p))
			}
		}
		if layer(s.dir) == "cli" || s.file.Name.Name == "main" || forTests(s.dir) {
			continue
		}
		for _, use := range s.uses("os", func(name string) bool {
			return name == "Getenv" || name == "LookupEnv" || name == "Environ" || name == "ExpandEnv"
		}) {
			wrong = append(wrong, use+"; the environment is read in internal/cli, where flags are parsed")
		}
	}
	return wrong
}

// smallProgram: a package that looks up methods by name makes the linker keep every exported method
// of every type, which makes the program half as large again. gRPC alone is 4 % of it.
func smallProgram(sources []source) []string {
	var wrong []string
	for _, s := range sources {
		if s.test || layer(s.dir) == "" && !strings.HasPrefix(s.dir, "cmd/") {
			continue
		}
		for _, p := range s.imports() {
			if strings.HasPrefix(p, "google.golang.org/grpc") || strings.HasSuffix(p, "/otlptracehttp") || strings.HasPrefix(p, "go.opentelemetry.io/proto/otlp/collector") {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, which brings gRPC: package otlp sends traces (docs/decisions/046-small-program.md)", s.path, p))
			}
			if p == "text/template" || p == "html/template" {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, which looks up methods by their names, so that all methods would stay in the program: make it a .qtpl template (docs/decisions/046-small-program.md)", s.path, p))
			}
		}
	}
	return wrong
}

func TestTheTreeKeepsItsLayers(t *testing.T) {
	sources, err := read(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) < len(layers)/2 {
		t.Fatalf("found only %d source files above internal/; is this the whole tree?", len(sources))
	}
	for _, wrong := range slices.Concat(complaints(sources), sizes(sources, largePackages)) {
		t.Error(wrong)
	}
}

func TestAPackageKeepsItsSize(t *testing.T) {
	ceilings := map[string]int{"internal/plan": 5000}
	for _, c := range []struct {
		pkg   string
		lines int
		want  string // part of the complaint; empty: there is none
	}{
		{"internal/attack", maxPackage, ""},
		{"internal/attack", maxPackage + 1, "want two packages"},
		{"internal/plan", 5000, ""},
		{"internal/plan", 5001, "divide it"},
		{"internal/plan", 5000 - lowerBy + 1, ""},
		{"internal/plan", 5000 - lowerBy, "lower its ceiling"},
		{"internal/plan", maxPackage, "take it out"},
	} {
		half := c.lines / 2
		got := strings.Join(sizes([]source{
			{dir: c.pkg, lines: half}, {dir: c.pkg, lines: c.lines - half},
			{dir: c.pkg, lines: 9000, test: true}, {dir: c.pkg, lines: 9000, made: true}, {dir: "internal/stack", lines: 9},
		}, ceilings), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s of %d lines: %q, want %q", c.pkg, c.lines, got, c.want)
		}
	}
}

func TestEachRuleSeesItsBreach(t *testing.T) {
	const head = "// Package stack does something.\npackage stack\n"
	for _, c := range []struct {
		breach string
		file   string
		text   string
		want   string // part of the complaint; empty: there is none
	}{
		{"nothing wrong", "internal/stack/a.go", head + `import ("time"; "net"); var d time.Duration; var j = net.JoinHostPort`, ""},
		{"a test may read the clock", "internal/stack/a_test.go", head + `import "time"; var t = time.Now()`, ""},
		{"a program", "cmd/holdfast/main.go", "// Command holdfast runs.\npackage main\nimport _ \"holdfast/internal/cli\"", ""},

		{"a package without a place", "internal/attic/a.go", "// Package attic is new.\npackage attic\n", "list of layers in internal/layers_test.go"},
		{"a name that says nothing", "internal/plan/util/a.go", "// Package util is all.\npackage util\n", "does not say what lives there"},
		{"a package without a place in a divided one", "internal/redis/attic/a.go", "// Package attic is new.\npackage attic\n", "list of layers in internal/layers_test.go"},
		{"an import upwards inside a divided one", "internal/redis/election/a.go", "// Package election decides.\npackage election\nimport _ \"holdfast/internal/redis\"", "stands above it"},
		{"a pure package inside another one", "internal/redis/election/a.go", "// Package election decides.\npackage election\nimport \"time\"\nvar t = time.Now()", "is pure"},
		{"an import upwards", "internal/process/a.go", "// Package process runs.\npackage process\nimport _ \"holdfast/internal/supervise\"", "stands above it"},
		{"an import upwards in a test", "internal/process/a_test.go", "// Package process runs.\npackage process\nimport _ \"holdfast/internal/cli\"", "stands above it"},
		{"a web node that knows the plan", "internal/web/a.go", "// Package web serves.\npackage web\nimport _ \"holdfast/internal/plan\"", "internal/web reaches internal/plan"},
		{"a pure package that opens files", "internal/stack/a.go", head + `import _ "os"`, "is pure"},
		{"a pure package that dials", "internal/stack/a.go", head + `import "net"; var d = net.Dial`, "uses net.Dial"},
		{"a pure package that asks the time", "internal/stack/a.go", head + `import clock "time"; var t = clock.Now()`, "uses time.Now"},
		{"a pure package on an impure one", "internal/stack/a.go", head + `import _ "holdfast/internal/redis"`, "is pure"},
		{"a second importer of the client", "internal/web/a.go", "// Package web serves.\npackage web\nimport _ \"github.com/redis/rueidis/rueidiscompat\"", "only internal/redis may"},
		{"a supervisor that writes files by itself", "internal/supervise/a.go", "// Package supervise carries out.\npackage supervise\nimport _ \"os\"", "goes through package machine"},
		{"a supervisor that dials by itself", "internal/supervise/a.go", "// Package supervise carries out.\npackage supervise\nimport \"net\"\nvar d net.Dialer", "uses net.Dialer"},
		{"a supervisor in its own directory", "internal/supervise/state.go", "// Package supervise carries out.\npackage supervise\nimport _ \"os\"", ""},
		{"no package comment", "internal/stack/a.go", "package stack\n", "has no package comment"},
		{"a comment about something else", "internal/stack/a.go", "// This is it.\npackage stack\n", "does not begin with"},
		{"a template that is read at run time", "internal/stack/a.go", head + `import _ "text/template"`, "looks up methods by their names"},
		{"gRPC", "internal/web/a.go", "// Package web serves.\npackage web\nimport _ \"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp\"", "brings gRPC"},
		{"a long file", "internal/stack/a.go", head + strings.Repeat("// x\n", maxLines), "want two files"},
		{"a long file that a program made", "internal/stack/a.go", "// Code generated by qtc. DO NOT EDIT.\n\n" + head + strings.Repeat("// x\n", maxLines), ""},
		{"test machinery in what ships", "internal/web/a.go", "// Package web serves.\npackage web\nimport _ \"testing\"", "is no test"},
		{"a package for tests", "internal/redis/redistest/a.go", "// Package redistest starts servers.\npackage redistest\nimport _ \"testing\"", ""},
		{"a package for tests in what ships", "internal/web/a.go", "// Package web serves.\npackage web\nimport _ \"holdfast/internal/redis/redistest\"", "is no test"},
		{"the environment read below", "internal/web/a.go", "// Package web serves.\npackage web\nimport \"os\"\nvar e = os.Getenv(\"X\")", "where flags are parsed"},
	} {
		t.Run(c.breach, func(t *testing.T) {
			sources, err := read(fstest.MapFS{c.file: {Data: []byte(c.text)}})
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(complaints(sources), "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("complaints: %q, want %q", got, c.want)
			}
		})
	}
}

// A layer whose package is gone would be a place that nothing holds to the rules.
func TestEveryLayerIsThere(t *testing.T) {
	for _, name := range slices.Concat(layers, pure, stateless, ofTheStack) {
		if !slices.Contains(layers, name) {
			t.Errorf("%s has a rule, and is not among the layers", name)
		}
		if found, err := fs.Glob(os.DirFS(name), "*.go"); err != nil || len(found) == 0 {
			t.Errorf("the layer %s has no package", name)
		}
	}
	for dir := range largePackages {
		if _, err := os.Stat("../" + dir); err != nil {
			t.Errorf("largePackages names a package that is not there: %v", err)
		}
	}
}

func TestEveryFileAtHomeIsThere(t *testing.T) {
	for name := range atHome {
		if _, err := os.Stat("supervise/" + name); err != nil {
			t.Errorf("atHome names a file that is not there: %v", err)
		}
	}
}
