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

// What the configurations of the balancers name: the addresses that they listen at, and the
// lists of certificates. A change that was stopped leaves the balancers with the configuration
// that it gave them, while the stack is the one of before. So the stack alone does not tell
// what the balancers need.

// haproxyConfig is the name of a balancer's configuration in the directory of its node.
const haproxyConfig = "haproxy.cfg"

var (
	// boundWord is the word after "bind", with several addresses between commas.
	boundWord = regexp.MustCompile(`(?m)^\s*bind\s+('[^'\n]*'|[^\s'\\]+)`)
	// shownList is where a configuration names a list of certificates.
	shownList = regexp.MustCompile(` ssl crt-list ((?:'[^']*'|\\'|[^\s'\\])+)`)
	// shownListName is the name of a list at the end of a word.
	shownListName = regexp.MustCompile(path.Base(plan.CertificateList) + `[-0-9a-f]*'?$`)
)

// bound reports whether a configuration of HAProxy binds an address, or one that has it as
// well: an address of all interfaces and one of them with the same port are taken together.
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

// allInterfaces reports whether a host that is listened at means every address.
func allInterfaces(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || host == "*" || err == nil && a.IsUnspecified()
}

// bindsNow reports whether a balancer that runs on a host has an address already: it takes it
// over by a reload. Its configuration is read from the host, since a supervisor that ended in
// the middle of a reload has not written down that the balancer has another one.
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

// listsIn are the lists of certificates that a configuration of HAProxy names, by their names in
// the state directory.
func listsIn(config string) (lists []string) {
	for _, bind := range shownList.FindAllString(config, -1) {
		if name := strings.TrimSuffix(shownListName.FindString(bind), "'"); name != "" {
			lists = append(lists, path.Join(plan.CertificatesDir, name))
		}
	}
	slices.Sort(lists)
	return slices.Compact(lists)
}

// listsOf are the lists that the configuration of a balancer names.
func (s *Supervisor) listsOf(node string) []string {
	now, _ := s.current()
	is, _ := now.part(node)
	for _, f := range is.files {
		if filepath.Base(f.Path) == haproxyConfig {
			return listsIn(f.Content)
		}
	}
	return nil
}

// listsOn are those that the balancers of a host name.
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
