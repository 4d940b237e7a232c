// Package load is the clients of a drill. They send operations at a fixed rate, whatever becomes of
// the answers, and record what they did and saw.
//
// New returns a Load, and Run sends its operations. A pacer makes operations due (load.go), a
// client takes each of them (client.go) and sends it over a connection of its own (connection.go).
// Which operation it is follows from the seed (mix.go), or from the user's URLs (url.go). Some
// clients ask web nodes directly (direct.go). Try checks beforehand that every kind of request
// works (try.go); ReadBack and Remove come after the load (after.go).
//
// The package knows the service by HTTP alone, as any client does: nothing of nodes, stacks or
// Redis. Package history judges the records, and package drill breaks things meanwhile.
package load

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config describes what to send, and where.
type Config struct {
	// Entries are the base URLs of the entry, such as http://127.0.0.1:6301. The clients are spread
	// over them. A client that cannot connect tries the next one.
	Entries []string
	// TLS is for entries with https://. It determines how the certificate is verified.
	TLS *tls.Config
	// Nodes are asked directly, too, by clients of their own; not if there are URLs.
	Nodes []Node
	Token string // bearer token; empty: no token
	// Headers are sent with every request, in addition to the token.
	Headers map[string]string
	// Prefix begins every key and every Idempotency-Key of the load. It has to be unique to this
	// drill, and may have letters, digits and any of : _ . -
	Prefix string
	// Rate is in operations per second, of all clients together. Clients is the number of clients.
	// Each has one connection, and at most one operation under way.
	Rate, Clients int
	// Registers, Counters and Sets are how many keys of each kind are in use at a time. A set that
	// is full is replaced by a new one.
	Registers, Counters, Sets int
	// URLs are requested instead of operations on keys, all equally often.
	URLs []URL
	// ReplicaReads and CachedReads are the fractions of reads of registers and counters that need
	// not come from the master.
	ReplicaReads, CachedReads float64
	// Timeout limits an operation, from when it is sent, including its repetitions. It should be
	// longer than a web node holds a request, and is at most 30 s. 0: 15 s.
	Timeout time.Duration
	// Grace is how long Run waits, after the load's end, for operations that are due and not done.
	// 0: the same as Timeout.
	Grace time.Duration
	// Seed determines the mix: the same seed makes the same operations due at the same times.
	Seed int64
	// Began is the zero of all times, with Go's monotonic clock reading. Zero: the call of New.
	Began time.Time
}

// The limits of what makes sense, and of what a machine can hold.
const (
	maxRate    = 100_000
	maxClients = 10_000
	maxKeys    = 100_000 // of a kind
	// maxTimeout is how long a web node remembers an Idempotency-Key: a repetition after that would
	// count twice (docs/guarantees.md).
	maxTimeout = 30 * time.Second
)

// Check returns an error if the configuration is invalid.
func (c Config) Check() error { return c.setDefaults() }

// setDefaults sets the defaults, and returns an error if the configuration is invalid.
func (c *Config) setDefaults() error {
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	if c.Grace == 0 {
		c.Grace = c.Timeout
	}
	if c.Began.IsZero() {
		c.Began = time.Now()
	}

	switch {
	case len(c.Entries) == 0:
		return fmt.Errorf("load: there is no entry to send to")
	case c.Prefix == "":
		return fmt.Errorf("load: the prefix of the keys is empty")
	case len(c.Prefix) > 100:
		return fmt.Errorf("load: the prefix of the keys has %d characters; at most 100 are possible", len(c.Prefix))
	case strings.ContainsFunc(c.Prefix, notOfPrefix):
		return fmt.Errorf("load: the prefix of the keys is %q; letters, digits and : _ . - are possible", c.Prefix)
	case c.Rate < 1 || c.Rate > maxRate:
		return fmt.Errorf("load: the rate is %d operations per second; 1 to %d are possible", c.Rate, maxRate)
	case c.Clients < 1 || c.Clients > maxClients:
		return fmt.Errorf("load: %d clients; 1 to %d are possible", c.Clients, maxClients)
	case len(c.URLs) == 0 && c.Registers+c.Counters+c.Sets == 0:
		return fmt.Errorf("load: there is no key to use: registers, counters and sets are all 0")
	case c.Timeout < 0 || c.Timeout > maxTimeout:
		return fmt.Errorf("load: the timeout is %v; it has to be positive and at most %v, which is how long an Idempotency-Key is remembered", c.Timeout, maxTimeout)
	case c.Grace < 0:
		return fmt.Errorf("load: the grace is %v; it has to be positive", c.Grace)
	}

	for _, n := range []struct {
		of   string
		keys int
	}{{"registers", c.Registers}, {"counters", c.Counters}, {"sets", c.Sets}} {
		if n.keys < 0 || n.keys > maxKeys {
			return fmt.Errorf("load: %d %s; 0 to %d are possible", n.keys, n.of, maxKeys)
		}
	}

	if r, a := c.ReplicaReads, c.CachedReads; !(r >= 0 && a >= 0 && r+a <= 1) {
		return fmt.Errorf("load: %g of the reads are replicas' and %g cached ones; fractions of 1 are meant", r, a)
	}
	for i := 0; i < len(c.Token); i++ {
		if c.Token[i] <= ' ' || c.Token[i] > '~' {
			return fmt.Errorf("load: the token has a character that a header cannot carry")
		}
	}
	return nil
}

// header returns the header lines of every request.
func (c *Config) header() []byte {
	var q request
	if c.Token != "" {
		q.line("Authorization", "Bearer "+c.Token)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		q.line(name, c.Headers[name])
	}
	return q.header
}

const prefixCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.-"

func notOfPrefix(r rune) bool { return !strings.ContainsRune(prefixCharacters, r) }

// addresses returns the entries as host:port.
func (c *Config) addresses() ([]string, error) {
	var all []string
	for _, e := range c.Entries {
		u, err := url.Parse(e)
		if err != nil {
			return nil, fmt.Errorf("load: the entry %q is no URL: %w", e, err)
		}
		switch {
		case u.Scheme != "http" && u.Scheme != "https":
			return nil, fmt.Errorf("load: the entry %q does not begin with http:// or https://, which is all the load can speak", e)
		case u.Scheme == "https" && c.TLS == nil:
			return nil, fmt.Errorf("load: the entry %q speaks TLS, and its certificate is not known; one of http:// needs none", e)
		case u.Scheme == "http" && c.TLS != nil:
			return nil, fmt.Errorf("load: the entry %q speaks no TLS, and another one does", e)
		case u.Hostname() == "":
			return nil, fmt.Errorf("load: the entry %q names no host", e)
		case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil || u.Fragment != "":
			return nil, fmt.Errorf("load: the entry %q has more than host and port", e)
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		all = append(all, net.JoinHostPort(u.Hostname(), port))
	}
	return all, nil
}
