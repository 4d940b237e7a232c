package stack

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/yamltree"
)

// rule is what a text has to be. Whatever ends up in haproxy.cfg is limited to letters, digits and
// punctuation without a meaning there, so that no value can add a word, a comment or a line to it
// (HAProxy manual, section 2.2, "Quoting and escaping").
type rule struct {
	what    string                // what would be right: "a path such as /api"
	pattern *regexp.Regexp        // also valid in JSON Schema's dialect
	check   func(s string) string // returns a more precise complaint, or ""
	values  []string              // all allowed values, if they are few
	none    bool                  // "" and none are allowed, and mean nothing
	loose   bool                  // a number or a boolean counts as a text
}

// bucketName is the name of an S3 bucket, with an optional prefix.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,62}(/[^\x00-\x1f?#]*)?$`)

// oneOf returns the rule of a text that is one of a few words.
func oneOf(values ...string) rule {
	return rule{
		what:   yamltree.Listed(values, "or"),
		values: values,
		check: func(s string) string {
			if slices.Contains(values, s) {
				return ""
			}
			if near := didYouMean(s, values); near != "" {
				return yamltree.Quoted(s) + " is not known" + near
			}
			return fmt.Sprintf("%s is not known: write %s", yamltree.Quoted(s), yamltree.Listed(values, "or"))
		},
	}
}

var (
	nameRule = rule{
		what:    "a name of lower-case letters, digits and dashes, a letter first, 32 characters at most, such as web-2",
		pattern: regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`),
	}
	// validate checks whether the application exists.
	appRule = rule{what: "the name of an application", check: func(s string) string {
		return checkPrintable(s, "the name of an application")
	}}
	pathRule = rule{
		what:    "a path such as /api",
		pattern: regexp.MustCompile(`^/[A-Za-z0-9._~/%+@:=,;!&-]*$`),
		check:   func(s string) string { return checkPath(s, "._~/%+@:=,;!&-") },
	}
	// A health check may have a query.
	healthPathRule = rule{
		what:    "a path such as /health, or none",
		pattern: regexp.MustCompile(`^/[A-Za-z0-9._~/%+@:=,;!&?-]*$`),
		check:   func(s string) string { return checkPath(s, "._~/%+@:=,;!&?-") },
		none:    true,
	}
	healthHostRule = rule{
		what:    "a host as the Host header has it, such as www.example.com",
		pattern: regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`),
		check: func(s string) string {
			if strings.Contains(s, "://") {
				return fmt.Sprintf("%s is a URL: write the host alone, such as www.example.com", yamltree.Quoted(s))
			}
			return ""
		},
	}
	statisticsRule = rule{
		what:    "a path such as /web-app, or none",
		pattern: pathRule.pattern,
		check: func(s string) string {
			if s == "/" {
				return `"/" would hide every application: write a path such as /web-app, or none`
			}
			return pathRule.check(s)
		},
		none: true,
	}
	suffixRule = rule{
		what:    "the end of a path, such as .png",
		pattern: regexp.MustCompile(`^[A-Za-z0-9._~/%+@:=,;!&][A-Za-z0-9._~/%+@:=,;!&-]*$`),
		check:   checkSuffix,
	}
	hostRule = rule{
		what:    "the name of a host, such as www.example.com",
		pattern: regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,252}$`),
		check:   checkHost,
	}
	entryHostRule = rule{
		what:    "the name of a host, such as www.example.com, *.example.com for all names below one, or * for every name",
		pattern: regexp.MustCompile(`^(\*|(\*\.)?[A-Za-z0-9_][A-Za-z0-9._-]{0,252})$`),
		check: func(s string) string {
			if s == "*" {
				return ""
			}
			return checkHost(strings.TrimPrefix(s, "*."))
		},
	}
	// RFC 6265, section 4.1.1, allows more characters; HAProxy's quoting does not.
	cookieRule = rule{
		what:    "the name of a cookie: letters, digits, '.', '_' and '-', such as node",
		pattern: regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`),
		none:    true,
	}
	addressRule = rule{
		what:    "host:port, such as 127.0.0.1:6301",
		pattern: regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$`),
		check:   checkAddress,
	}
	proxyRule = rule{
		what:    "the IP address of a proxy or a network, such as 10.0.0.5 or 10.0.0.0/8",
		pattern: regexp.MustCompile(`^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$`),
		check:   checkProxy,
	}
	directoryRule = rule{
		what:  "a directory, such as ./public",
		check: func(s string) string { return checkFilePath(s, "a directory, such as ./public") },
	}
	backupRule = rule{
		what: "a directory, such as ./backups, or a bucket, such as s3://backups/shop",
		check: func(s string) string {
			if bucket, found := strings.CutPrefix(s, s3Scheme); found && !bucketName.MatchString(bucket) {
				return yamltree.Quoted(s) + " names no bucket: write s3://BUCKET or s3://BUCKET/PREFIX"
			} else if !found && strings.Contains(s, "://") {
				return yamltree.Quoted(s) + " is no storage that is known: write a directory, or s3://BUCKET/PREFIX"
			}
			return checkFilePath(s, "a directory, such as ./backups")
		},
	}
	recipientRule = rule{
		what:    "an age recipient, such as age1… (see age-keygen)",
		pattern: regexp.MustCompile(`^age1[0-9a-z]{20,}$`),
	}
	endpointRule = rule{
		what:    "a URL, such as https://minio.example:9000",
		pattern: regexp.MustCompile(`^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$`),
	}
	regionRule = rule{
		what:    "the name of a region, such as eu-central-1",
		pattern: regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`),
	}
	imageRule = rule{
		what:    "the name of a container image, such as registry.example/shop:1",
		pattern: regexp.MustCompile(`^[a-zA-Z0-9][-a-zA-Z0-9._/:@]*$`),
	}
	argumentRule = rule{what: `a program and its arguments, such as ["python3", "app.py"]`, loose: true, check: checkNUL}
	envValueRule = rule{what: `text, or "" for an empty value`, loose: true, check: checkNUL}
	saveRule     = rule{
		what:    `"SECONDS CHANGES", such as "900 1"`,
		pattern: regexp.MustCompile(`^[1-9][0-9]{0,8} [1-9][0-9]{0,8}$`),
	}
	stopSignalRule   = oneOf("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2")
	memoryPolicyRule = oneOf("noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random",
		"volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")
	logRule    = oneOf("errors", "all")
	fsyncRule  = oneOf("always", "everysec", "no")
	serverRule = oneOf(ServerAuto, ServerRedis, ServerValkey)
	modeRule   = rule{what: "tcp", values: []string{"tcp"}, check: func(s string) string {
		if s == "tcp" {
			return ""
		}
		return fmt.Sprintf("%s is not known: write tcp; HTTP enters at entry.listen", yamltree.Quoted(s))
	}}
	authRule = rule{what: "none", values: []string{"none"}, check: func(s string) string {
		if s == "none" {
			return ""
		}
		return fmt.Sprintf("%s is not known: write none, which lets in everybody who reaches the address, or remove the key and listen on 127.0.0.1", yamltree.Quoted(s))
	}}
)

// firstOutside returns the first character that is neither a letter, a digit nor one of the others.
func firstOutside(s, others string) (rune, bool) {
	for _, c := range s {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c < 0x80 && strings.ContainsRune(others, c) {
			continue
		}
		return c, true
	}
	return 0, false
}

// character returns the name of a character that does not belong in a text.
func character(c rune) string {
	switch c {
	case ' ':
		return "a space"
	case '\t':
		return "a tab"
	case '\n', '\r':
		return "a line break"
	}
	return strconv.QuoteRuneToASCII(c)
}

func checkPath(s, others string) string {
	if !strings.HasPrefix(s, "/") {
		return fmt.Sprintf("%s does not begin with a slash: write %s", yamltree.Quoted(s), yamltree.Quoted("/"+s))
	}
	return checkURL(s, others)
}

func checkURL(s, others string) string {
	c, bad := firstOutside(s, others)
	switch {
	case !bad:
		return ""
	case c == '*':
		return fmt.Sprintf("%s has a *: it is compared letter by letter, without patterns; write only what has to match", yamltree.Quoted(s))
	case c == '?' || c == '#':
		return fmt.Sprintf("%s has a %c: a path ends before it", yamltree.Quoted(s), c)
	}
	return fmt.Sprintf("%s has %s, which no path has: write it as it stands in a URL, percent-encoded", yamltree.Quoted(s), character(c))
}

func checkSuffix(s string) string {
	switch {
	case s == "":
		return "an empty end would match every path: write the end of a path, such as .png, or leave the condition out"
	case s[0] == '-':
		return fmt.Sprintf("%s begins with a dash, which HAProxy takes for an option: begin with another character", yamltree.Quoted(s))
	}
	return checkURL(s, "._~/%+@:=,;!&-")
}

func checkHost(s string) string {
	switch {
	case strings.Contains(s, "*"):
		return fmt.Sprintf("%s has a *: a host is compared as a whole, without patterns; list each name", yamltree.Quoted(s))
	case strings.Contains(s, "://"):
		return fmt.Sprintf("%s is a URL: write the host alone, such as www.example.com", yamltree.Quoted(s))
	case strings.Contains(s, ":"):
		return fmt.Sprintf("%s has a port: write the host alone, such as www.example.com", yamltree.Quoted(s))
	}
	return ""
}

// checkAddress returns what is wrong with a host:port, or "".
func checkAddress(s string) string {
	if port, err := strconv.Atoi(s); err == nil && port > 0 && port < 1<<16 {
		return fmt.Sprintf("%s is a port alone: write 127.0.0.1:%d for this machine only, or 0.0.0.0:%d for everybody", yamltree.Quoted(s), port, port)
	}
	if strings.Contains(s, "://") {
		return fmt.Sprintf("%s is a URL: write host:port alone, such as 127.0.0.1:6301", yamltree.Quoted(s))
	}

	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if strings.Count(s, ":") > 1 && !strings.Contains(s, "[") {
			return fmt.Sprintf("%s is no host:port: write an IPv6 address in brackets, such as [::1]:6301", yamltree.Quoted(s))
		}
		return fmt.Sprintf("%s is no host:port: write both, such as 127.0.0.1:6301", yamltree.Quoted(s))
	}
	if host == "" || host == "*" {
		return fmt.Sprintf("%s names no host: write 127.0.0.1:%s for this machine only, or 0.0.0.0:%s for everybody", yamltree.Quoted(s), port, port)
	}

	if strings.HasPrefix(s, "[") {
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() || a.Zone() != "" {
			return fmt.Sprintf("%s has no IPv6 address in its brackets: write such as [::1]:6301", yamltree.Quoted(s))
		}
	} else if c, bad := firstOutside(host, "._-"); bad {
		return fmt.Sprintf("%s has %s in its host: write an IP address or a name", yamltree.Quoted(s), character(c))
	} else if strings.ContainsRune("-.", rune(host[0])) {
		return fmt.Sprintf("%s has a host that begins with %c: write an IP address or a name", yamltree.Quoted(s), host[0])
	} else if strings.Trim(host, "0123456789.") == "" {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Sprintf("%s has no IP address before its port: write four numbers from 0 to 255, such as 127.0.0.1", yamltree.Quoted(s))
		}
	}

	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || strings.Trim(port, "0123456789") != "" {
		return fmt.Sprintf("%s has the port %s: write a port from 1 to 65535", yamltree.Quoted(s), yamltree.Quoted(port))
	}
	return ""
}

// checkProxy returns what is wrong with a text that is neither an IP address nor a network, or "".
func checkProxy(s string) string {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return ""
	}
	if network, err := netip.ParsePrefix(s); err == nil {
		if network != network.Masked() {
			return fmt.Sprintf("%s is an address with the size of its network: write %s for the one, or %s for the whole network", yamltree.Quoted(s), network.Addr(), network.Masked())
		}
		return ""
	}
	if host, _, err := net.SplitHostPort(s); err == nil {
		return fmt.Sprintf("%s has a port, which a proxy chooses anew for each connection: write its IP address alone, such as %s", yamltree.Quoted(s), exampleProxy(host))
	}
	return fmt.Sprintf("%s is neither an IP address nor a network: write one such as %s or 10.0.0.0/8", yamltree.Quoted(s), exampleProxy(s))
}

// exampleProxy returns the address that was probably meant.
func exampleProxy(s string) string {
	if strings.EqualFold(s, "localhost") {
		return "127.0.0.1"
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.WithZone("").String()
	}
	return "10.0.0.5"
}

// reserved are the names of other nodes and ports of a stack.
var reserved = []string{"balancer", "redis", "sentinel", "redis-master", "keepalived"}

// ownVariables are the variables that tell one node from another. Variables about Redis may be set
// by hand, for a Redis elsewhere.
var ownVariables = slices.Concat(NodeVariables, []string{PodPasswordVariable})

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func checkVariable(name string) string {
	if slices.Contains(ownVariables, name) {
		return fmt.Sprintf("Holdfast sets %s for each node: choose another name", name)
	}
	if !variable.MatchString(name) {
		return fmt.Sprintf("%s is no name of a variable: write letters, digits and underscores, a digit not first", yamltree.Quoted(name))
	}
	return ""
}

// exampleCommand returns a command line as the list that was probably meant.
func exampleCommand(line string) string {
	words := strings.Fields(line)
	if len(words) == 0 || len(line) > 60 {
		return `["python3", "app.py"]`
	}
	if strings.ContainsAny(line, "\"'\\|&;<>(){}*?~`\n") {
		words = []string{"sh", "-c", line}
	}
	for i, w := range words {
		words[i] = strconv.Quote(w)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

func checkNUL(s string) string {
	if strings.ContainsRune(s, 0) {
		return "a NUL character cannot be passed to a program: remove it"
	}
	return ""
}

func checkPrintable(s, what string) string {
	if s == "" {
		return "it is empty: write " + what
	}
	for _, c := range s {
		if c < ' ' || c == 0x7f {
			return fmt.Sprintf("%s has %s: write %s", yamltree.Quoted(s), character(c), what)
		}
	}
	return ""
}

// checkFilePath returns what is wrong with a path on the disk, or "". A ~ is refused rather than
// replaced: the file describes the stack for every user and every host, and the home directory
// would depend on the user and the host.
func checkFilePath(s, what string) string {
	if complaint := checkPrintable(s, what); complaint != "" {
		return complaint
	}
	if s[0] == '~' || s[0] == '$' {
		first, _, _ := strings.Cut(s, "/")
		return fmt.Sprintf("%s begins with %s, which only a shell replaces: write the whole path, such as /home/me/%s, or one relative to this file; ./%s is a file of that name",
			yamltree.Quoted(s), first, strings.TrimPrefix(s[len(first):], "/"), s)
	}
	return ""
}
