package supervise

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"holdfast/internal/plan"
)

// This file finds what the balancers' configurations name: the addresses that they listen on,
// and the lists of certificates. The stack alone does not tell what the balancers need: after a
// change that was stopped, they keep the configuration that the change gave them, while the
// stack is the former one.

// haproxyConfig is the file name of a balancer's configuration.
const haproxyConfig = "haproxy.cfg"

var (
	// boundWord matches "bind" and the word after it, which may have several addresses between
	// commas.
	boundWord = regexp.MustCompile(`(?m)^\s*bind\s+('[^'\n]*'|[^\s'\\]+)`)
	// certificateListWord matches the place where a configuration names a list of certificates.
	certificateListWord = regexp.MustCompile(` ssl crt-list ((?:'[^']*'|\\'|[^\s'\\])+)`)
	// certificateListName matches the name of a list at the end of a word.
	certificateListName = regexp.MustCompile(path.Base(plan.CertificateList) + `[-0-9a-f]*'?$`)
)

// bound reports whether a configuration of HAProxy binds an address, or an address that
// excludes it: an address and the address of all interfaces with the same port cannot both be
// taken.
func bound(config, address string) bool {
	host, port := splitAddress(address)
	for _, bind := range boundWord.FindAllStringSubmatch(config, -1) {
		for one := range strings.SplitSeq(strings.Trim(bind[1], "'"), ",") {
			h, p := splitAddress(one)
			if p != "" && p == port && (h == host || allInterfaces(h) || allInterfaces(host)) {
				return true
			}
		}
	}
	return false
}

// allInterfaces reports whether listening on a host means listening on every address.
func allInterfaces(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || host == "*" || err == nil && a.IsUnspecified()
}

// bindsNow reports whether a running balancer of a host already listens on an address, and so
// can keep it in a reload. It reads the configuration on the host, because a supervisor that
// ended in the middle of a reload has not recorded the balancer's new configuration.
func (s *Supervisor) bindsNow(ctx context.Context, host home, address string) (bool, error) {
	for _, p := range s.balancersOn(host) {
		if host.running(ctx, p.Node) == "" {
			continue
		}
		config, err := host.Read(ctx, inHome(p.Node, haproxyConfig))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if bound(string(config), address) {
			return true, nil
		}
	}
	return false, nil
}

// listsIn returns the lists of certificates that a configuration of HAProxy names, as paths in
// the state directory.
func listsIn(config string) (lists []string) {
	for _, bind := range certificateListWord.FindAllString(config, -1) {
		if name := strings.TrimSuffix(certificateListName.FindString(bind), "'"); name != "" {
			lists = append(lists, path.Join(plan.CertificatesDir, name))
		}
	}
	slices.Sort(lists)
	return slices.Compact(lists)
}

// listsOf returns the lists that the configuration of a balancer names.
func (s *Supervisor) listsOf(node string) []string {
	now, _ := s.current()
	is, _ := now.nodePlan(node)
	for _, f := range is.files {
		if filepath.Base(f.Path) == haproxyConfig {
			return listsIn(f.Content)
		}
	}
	return nil
}

// listsOn returns the lists that the balancers of a host name.
func (s *Supervisor) listsOn(host home) (lists []string) {
	for _, p := range s.balancersOn(host) {
		lists = append(lists, s.listsOf(p.Node)...)
	}
	slices.Sort(lists)
	return slices.Compact(lists)
}

// namesLists reports whether a balancer of any host names a list.
func (s *Supervisor) namesLists() bool {
	return slices.ContainsFunc(s.Plan().Hosts, func(h plan.Host) bool { return len(s.listsOn(s.hosts.at(h.Name))) > 0 })
}
