package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// URLForms are what ParseURL understands, for a person to read.
const URLForms = `redis://[USER:PASSWORD@]HOST[:PORT][/DB], ` +
	`redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/MASTER-NAME[/DB][?sentinel=USER:PASSWORD|none] or ` +
	`redis+cluster://[USER:PASSWORD@]HOST[:PORT],…; rediss instead of redis speaks TLS`

// ParseURL takes from a URL (see URLForms) where Redis is, as a single server, by Sentinels or as a
// cluster, as which user to log in, and whether to speak TLS. It leaves the rest of the
// configuration alone, and all of it if it fails. User and password are the nodes', and also the
// Sentinels' unless the option sentinel names others for them, or none. What is not a letter or
// digit in them is written %XX. Its errors never quote the URL, which has a password.
func ParseURL(text string, cfg *Config) error {
	c := *cfg
	if err := c.parseURL(text); err != nil {
		return fmt.Errorf("the Redis URL is wrong: %w; its forms are %s", err, URLForms)
	}
	*cfg = c
	return nil
}

func (c *Config) parseURL(text string) error {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return errors.New("it has no scheme")
	}
	family, way, _ := strings.Cut(strings.ToLower(scheme), "+")
	switch family {
	case "redis":
		c.TLS = nil
	case "rediss":
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	default:
		return errors.New("its scheme is not one that is known")
	}
	// By hand, because net/url accepts no list of hosts, and its errors quote the URL.
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, path := rest[:end], rest[end:]
	if strings.Contains(path, "@") {
		return errors.New("there is an @ behind the host; in a password, write / as %2F, ? as %3F, # as %23 and @ as %40")
	}
	path, options, _ := strings.Cut(path, "?")
	if strings.Contains(path, "#") || way != "sentinel" && options != "" {
		return errors.New("it has options behind a ? or a #, of which none is known")
	}
	if err := c.parseOptions(options); err != nil {
		return err
	}
	if err := c.parseUser(&authority); err != nil {
		return err
	}
	path = strings.Trim(path, "/")
	c.Address, c.Cluster = "", nil
	switch way {
	case "":
		hosts, err := parseHosts(authority, "6379")
		if err != nil {
			return err
		}
		if len(hosts) > 1 {
			return errors.New("a single Redis has one host")
		}
		c.Address = hosts[0]
		return c.parseDB(path)
	case "sentinel":
		hosts, err := parseHosts(authority, "26379")
		if err != nil {
			return err
		}
		c.Sentinels = hosts
		name, db, _ := strings.Cut(path, "/")
		if name, err = url.PathUnescape(name); err != nil {
			return errors.New("the master's name has a % that is no escape")
		}
		if name != "" {
			c.MasterName = name
		}
		if c.MasterName == "" {
			return errors.New("the name that the Sentinels have for the master is missing")
		}
		return c.parseDB(db)
	case "cluster":
		hosts, err := parseHosts(authority, "6379")
		if err != nil {
			return err
		}
		if path != "" && path != "0" {
			return errors.New("a cluster has no other database than 0")
		}
		c.Cluster, c.DB = hosts, 0
		return nil
	}
	return errors.New("its scheme is not one that is known")
}

// parseUser takes user and password off the authority.
func (c *Config) parseUser(authority *string) error {
	c.Username, c.Password = "", ""
	at := strings.LastIndex(*authority, "@")
	if at < 0 {
		return nil
	}
	login, err := parseLogin((*authority)[:at])
	*authority = (*authority)[at+1:]
	c.Username, c.Password = login.Username, login.Password
	return err
}

func parseLogin(text string) (l Login, err error) {
	user, password, _ := strings.Cut(text, ":")
	var err2 error
	l.Username, err = url.PathUnescape(user)
	l.Password, err2 = url.PathUnescape(password)
	if err != nil || err2 != nil {
		return l, errors.New("user or password has a % that is no escape; write % as %25")
	}
	if l.Username != "" && l.Password == "" {
		return l, errors.New("it has a user and no password; a password alone is written :PASSWORD@")
	}
	return l, nil
}

// parseOptions reads what is behind the question mark, by hand because of what errors may tell.
func (c *Config) parseOptions(options string) error {
	c.Sentinel = nil
	for option := range strings.SplitSeq(options, "&") {
		name, value, _ := strings.Cut(option, "=")
		switch {
		case option == "":
		case name != "sentinel" || value == "":
			return errors.New("it has an option other than sentinel=USER:PASSWORD or sentinel=none")
		case value == "none":
			c.Sentinel = &Login{}
		default:
			login, err := parseLogin(value)
			if err != nil {
				return err
			}
			c.Sentinel = &login
		}
	}
	return nil
}

func (c *Config) parseDB(text string) error {
	c.DB = 0
	if text == "" {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return errors.New("what stands for the database is not a number")
	}
	c.DB = int(n)
	return nil
}

func parseHosts(list, defaultPort string) ([]string, error) {
	var hosts []string
	for text := range strings.SplitSeq(list, ",") {
		place := fmt.Sprintf("host %d", len(hosts)+1)
		if text == "" || strings.HasPrefix(text, ":") {
			return nil, errors.New(place + " is missing")
		}
		if strings.HasSuffix(text, "]") || !strings.Contains(text, ":") {
			text += ":" + defaultPort
		}
		host, port, err := net.SplitHostPort(text)
		if err != nil || host == "" {
			return nil, errors.New(place + " cannot be read; an IPv6 address stands in []")
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, errors.New("the port of " + place + " is not a number from 1 to 65535")
		}
		if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"\<>^{}|%`, r) }) {
			return nil, errors.New(place + " has characters that no host has")
		}
		hosts = append(hosts, net.JoinHostPort(host, port))
	}
	return hosts, nil
}

// TLS makes the settings for Config.TLS of PEM texts, any of which may be nil: the authorities to
// trust (without them the system's), and the certificate and key of this client.
func TLS(authorities, certificate, key []byte) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if authorities != nil {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, errors.New("there is no certificate in PEM among the authorities")
		}
	}
	if (certificate == nil) != (key == nil) {
		return nil, errors.New("a certificate and its key belong together; one of them is missing")
	}
	if certificate != nil {
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("certificate and key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
