package stack

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/yamltree"
)

// CertificateSet are the certificates that an entry presents to its clients; zero: it does not
// speak TLS.
type CertificateSet struct {
	// SelfSigned makes Holdfast create a certificate by itself, for trying out.
	SelfSigned bool `yaml:"self-signed"`
	// Certificates are chosen by the host name that a client sends (SNI). A client that sends no
	// name of theirs gets the first one.
	Certificates []KeyPair `yaml:"certificates"`
	// Directory has certificates with their keys; relative to the stack file. Empty: there is no
	// such directory.
	Directory string `yaml:"directory"`
}

// TLS is how an entry speaks TLS with its clients; zero: it does not.
type TLS struct {
	CertificateSet
	// OfEntry is true for a tcp entry that uses the certificates of entry.tls.
	OfEntry bool `yaml:"-"`
	// Redirect is an address that takes plain HTTP and redirects it to the entry; empty: there is
	// none.
	Redirect string `yaml:"redirect"`
	// HSTS is for how long browsers shall use only HTTPS; 0: they are not told to.
	HSTS time.Duration `yaml:"hsts"`
}

// Enabled reports whether the entry speaks TLS.
func (t TLS) Enabled() bool { return t.OfEntry || t.CertificateSet.Enabled() }

// KeyPair are the files of a certificate, relative to the stack file.
type KeyPair struct {
	// Certificate has the certificate and after it its chain, in PEM.
	Certificate string `yaml:"certificate"`
	// Key has the private key; empty: Certificate has it, too.
	Key string `yaml:"key"`
}

// Enabled reports whether there are any certificates.
func (t CertificateSet) Enabled() bool {
	return t.SelfSigned || len(t.Certificates) > 0 || t.Directory != ""
}

// CertificateEntry is an entry with certificates of its own.
type CertificateEntry struct {
	CertificateSet
	// Listen is the address of a tcp entry; empty: it is the stack's entry.
	Listen string

	at path
}

// Key returns the key that has the certificates, such as entry.tls.
func (s CertificateEntry) Key() string { return s.at.String() }

// CertificateEntries returns the entries with certificates of their own, the stack's entry first.
func (s Stack) CertificateEntries() []CertificateEntry {
	var all []CertificateEntry
	if s.Entry.TLS.Enabled() {
		all = append(all, CertificateEntry{CertificateSet: s.Entry.TLS.CertificateSet, at: "entry/tls"})
	}
	for i, e := range s.TCP {
		if e.TLS.CertificateSet.Enabled() {
			all = append(all, CertificateEntry{e.TLS.CertificateSet, e.Listen, path("tcp").item(i).key("tls")})
		}
	}
	return all
}

// The short forms of tls: a certificate that Holdfast creates, and for a tcp entry the certificates
// of entry.tls.
const (
	selfSigned = "self-signed"
	ofEntry    = "entry"
)

var tlsKeys = []key[TLS]{
	leftOutFalse(boolKey(selfSigned, func(t *TLS) *bool { return &t.SelfSigned },
		"Have Holdfast make a certificate, for trying out: clients have to be told to trust it. It is for the entry's names and addresses, is kept in the state directory, and renewed.")),
	sectionsKey("certificates", keyPairKeys, func(t *TLS) *[]KeyPair { return &t.Certificates },
		"Certificates with their keys. A client gets the one for the name that it asks for (SNI), else the first."),
	textKey("directory", directoryRule, func(t *TLS) *string { return &t.Directory },
		"A directory with certificates: NAME.pem with certificate, chain and key; NAME.crt and NAME.key; or NAME/fullchain.pem and NAME/privkey.pem, as certbot has them. The first by name is for clients that ask for no name. Relative to this file."),
	textKey("redirect", addressRule, func(t *TLS) *string { return &t.Redirect },
		"host:port that takes plain HTTP, and sends every request to the same path by HTTPS."),
	hstsKey(),
}

// tcpTLSKeys are the keys of a tcp entry's tls.
var tcpTLSKeys = tlsKeys[:3]

var keyPairKeys = []key[KeyPair]{
	textKey("certificate", pemRule, func(k *KeyPair) *string { return &k.Certificate },
		"The file of the certificate and, after it, its chain (PEM), such as certbot's fullchain.pem. Relative to this file."),
	textKey("key", pemRule, func(k *KeyPair) *string { return &k.Key },
		"The file of its private key (PEM), not encrypted. Default: the file of the certificate has it, too."),
}

var pemRule = rule{
	what:  "a file, such as ./tls/fullchain.pem",
	check: func(s string) string { return checkFilePath(s, "a file, such as ./tls/fullchain.pem") },
}

// tlsKey is a section that Show leaves out without TLS.
func tlsKey() key[Entry] {
	return tlsKeyOf(func(e *Entry) *TLS { return &e.TLS }, tlsKeys, []string{selfSigned},
		"Has the entry speak HTTPS (TLS 1.2 and 1.3; HTTP/2 and HTTP/1.1). Files that change are taken up by themselves; a broken one is refused, and the one before stays. \"self-signed\" stands for {self-signed: true}. Default: plain HTTP.")
}

// tcpTLSKey is the same for a tcp entry.
func tcpTLSKey() key[TCPEntry] {
	return tlsKeyOf(func(e *TCPEntry) *TLS { return &e.TLS }, tcpTLSKeys, []string{ofEntry, selfSigned},
		"Has the entry speak TLS (1.2 and 1.3) with its clients, and pass what they say on to the application in plain. \"entry\" takes the certificates of entry.tls; \"self-signed\" stands for {self-signed: true}. Files are taken up as those of entry.tls are. Default: bytes pass unread, so a program that speaks TLS itself keeps its own certificate.")
}

// tlsKeyOf returns the key of a section that a single word can replace.
func tlsKeyOf[T any](at func(*T) *TLS, keys []key[TLS], words []string, doc string) key[T] {
	return key[T]{
		name: "tls", doc: doc,
		read:   func(r *reader, p path, n *yamltree.Node, t *T) { readTLS(r, p, n, at(t), keys, words) },
		show:   func(t *T) any { return showTLS(at(t), keys) },
		schema: func() schema { return tlsSchema(keys, words) },
	}
}

func readTLS(r *reader, p path, n *yamltree.Node, t *TLS, keys []key[TLS], words []string) {
	switch {
	case n.Shape != yamltree.Text:
		readKeys(r, p, n, keys, t)
	case !slices.Contains(words, n.Text):
		r.ReportOnce(n.Pos, "%s is %s: write %s, or below it certificates or directory", p, n.Describe(), yamltree.Listed(words, "or"))
	default:
		t.OfEntry, t.SelfSigned = n.Text == ofEntry, n.Text == selfSigned
		r.spots[p.key(n.Text)] = r.spots[p]
	}
}

func showTLS(t *TLS, keys []key[TLS]) any {
	switch {
	case t.OfEntry:
		return ofEntry
	case t.Enabled():
		return showKeys(keys, t)
	}
	return nil
}

func tlsSchema(keys []key[TLS], words []string) schema {
	s := sectionSchema(keys)
	s["type"], s["pattern"] = []any{"object", "null", "string"}, "^("+strings.Join(words, "|")+")$" // the pattern is for a string
	return s
}

// leftOutFalse returns a key that Show leaves out where it is false.
func leftOutFalse[T any](k key[T]) key[T] {
	show := k.show
	k.show = func(t *T) any {
		if v := show(t); v != false {
			return v
		}
		return nil
	}
	return k
}

// maxHSTS is the longest time that browsers remember.
const (
	day     = 24 * time.Hour
	maxHSTS = 2 * 365 * day
)

var days = regexp.MustCompile(`^([0-9]{1,5})d$`)

// hstsKey is a time that can also be given in days.
func hstsKey() key[TLS] {
	return key[TLS]{
		name: "hsts",
		doc:  "For how long browsers come to this name by HTTPS alone (Strict-Transport-Security), such as 180d. There is no way back for a browser that has seen it. Default: none.",
		read: func(r *reader, p path, n *yamltree.Node, t *TLS) {
			const example = "a time such as 180d or 24h, or none"
			if n.Shape == yamltree.Text && n.Text == "none" {
				return
			}
			if n.Shape != yamltree.Text {
				r.reportType(p, n, example)
				return
			}
			d, err := time.ParseDuration(n.Text)
			if m := days.FindStringSubmatch(n.Text); m != nil {
				count, _ := strconv.Atoi(m[1])
				d, err = time.Duration(count)*day, nil
			}
			switch {
			case err != nil || d < time.Second || d%time.Second != 0:
				r.ReportOnce(n.Pos, "%s is %s: write %s", p, yamltree.Quoted(n.Text), example)
			case d > maxHSTS:
				r.ReportOnce(n.Pos, "%s is %s: write 730d or less", p, n.Text)
			default:
				t.HSTS = d
			}
		},
		show: func(t *TLS) any {
			switch {
			case t.HSTS == 0:
				return nil
			case t.HSTS%day == 0:
				return fmt.Sprintf("%dd", t.HSTS/day)
			}
			return shortDuration(t.HSTS)
		},
		schema: func() schema {
			return schema{"type": "string", "pattern": `^(none|[0-9]+d|([0-9]+(h|m|s))+)$`, "examples": []any{"180d", "24h"}}
		},
	}
}

// validateTLS checks the certificates of the entries against each other.
func validateTLS(r *reader, s Stack) {
	validateCertificates(r, "entry/tls", s.Entry.TLS.CertificateSet)
	for i, e := range s.TCP {
		p := path("tcp").item(i).key("tls")
		if e.TLS.OfEntry {
			if !s.Entry.TLS.Enabled() && !r.faulty("entry/tls") {
				r.Report(r.positionOf(p), "%s: entry.tls has no certificates that it could take: write certificates or directory here", p)
			}
			continue
		}
		validateCertificates(r, p, e.TLS.CertificateSet)
	}
}

func validateCertificates(r *reader, p path, t CertificateSet) {
	if !r.has(p) || r.faulty(p) {
		return
	}
	var given []string
	for _, name := range []string{selfSigned, "certificates", "directory"} {
		if r.has(p.key(name)) && (name != selfSigned || t.SelfSigned) {
			given = append(given, name)
		}
	}
	switch {
	case len(given) == 0 && !r.strange[p]:
		r.Report(r.keyPosition(p), "%s: there is no certificate: add certificates, directory, or self-signed: true", p)
	case len(given) > 1:
		r.Report(r.keyPosition(p.key(given[1])), "%s has %s at once: keep one of them", p, yamltree.Listed(given, "and"))
	}
	seen := map[KeyPair]bool{}
	for i, pair := range t.Certificates {
		at := p.key("certificates").item(i)
		switch {
		case r.faulty(at) || r.faulty(at.key("certificate")):
		case pair.Certificate == "":
			r.Report(r.positionOf(at), "%s: there is no file of the certificate: add certificate: fullchain.pem", at)
		case seen[pair]:
			r.Report(r.positionOf(at), "%s: %s stands in the list already: remove one", at, pair.Certificate)
		}
		seen[pair] = true
	}
}

// adviseTLS warns of a certificate that browsers would reject for a long time.
func adviseTLS(r *reader, s Stack) {
	t := s.Entry.TLS
	if t.SelfSigned && t.HSTS > 0 {
		r.warn(r.keyPosition("entry/tls/hsts"), "entry.tls.hsts: a browser that has seen it lets nobody past the warning that the certificate is self-signed: remove it, or name a certificate that browsers trust")
	}
}

// OtherListenAddresses returns the addresses at which the balancers listen besides entry.listen,
// and what each is for.
func (s Stack) OtherListenAddresses() map[string]string {
	all := map[string]string{}
	if s.Entry.TLS.Redirect != "" {
		all[s.Entry.TLS.Redirect] = "entry.tls.redirect"
	}
	for _, e := range s.TCP {
		all[e.Listen] = "the tcp entry"
	}
	return all
}

// Names returns the host names of the entry that the stack file has: those of entry.hosts and of
// routes.
func (s Stack) Names() []string {
	var all []string
	for _, name := range s.Entry.Hosts {
		if name != "*" {
			all = append(all, name)
		}
	}
	for _, route := range s.Routes {
		all = append(all, route.Host...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Addresses returns the IP addresses of the entry, and of tcp entries with TLS, that the stack file
// has.
func (s Stack) Addresses() []string {
	all := s.Entry.Virtual.Bare()
	for _, h := range s.Hosts {
		all = append(all, h.Address)
	}
	listens := []string{s.Entry.Listen}
	for _, e := range s.TCP {
		if e.TLS.Enabled() {
			listens = append(listens, e.Listen)
		}
	}
	for _, listen := range listens {
		host, _ := splitListen(listen)
		all = append(all, strings.Trim(host, "[]"))
	}
	all = slices.DeleteFunc(all, func(text string) bool {
		a, err := netip.ParseAddr(text)
		return err != nil || a.IsUnspecified()
	})
	slices.Sort(all)
	return slices.Compact(all)
}

// proxyProtocolKey is a flag that Show leaves out where it is false.
func proxyProtocolKey() key[Entry] {
	return leftOutFalse(boolKey("proxy-protocol", func(e *Entry) *bool { return &e.ProxyProtocol },
		"Whether the trusted-proxies pass connections on unread (layer 4), and say first from whom each is (the PROXY protocol, version 1 or 2). Then every connection of theirs has to begin so; nobody else's may. Default: false."))
}

// sendProxyKey is a flag that Show leaves out where it is false.
func sendProxyKey() key[App] {
	return leftOutFalse(boolKey("send-proxy", func(a *App) *bool { return &a.SendProxy },
		"Whether the balancers begin every connection to its nodes with whom it is from (the PROXY protocol, version 2), health checks included. A program that does not expect it understands nothing. Default: false.").only(Command, Servers, Image))
}

// validateProxyProtocol reports a PROXY protocol that any client could speak.
func validateProxyProtocol(r *reader, s Stack) {
	const p = path("entry/proxy-protocol")
	if s.Entry.ProxyProtocol && len(s.Entry.TrustedProxies) == 0 && !r.faulty("entry/trusted-proxies") {
		r.Report(r.keyPosition(p), "%s: anybody could say to be any client: add trusted-proxies with the addresses of the proxies that send it", p)
	}
}
