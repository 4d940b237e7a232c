package supervise

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"holdfast/internal/certificate"
	"holdfast/internal/haproxy"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
)

// This file gives certificates to the balancers of a host. They are written into the host's
// state directory, each file as a whole or not at all, and then the balancers are told. A
// balancer that starts reads them there.

// deployCertificates writes what a host should show into its state directory, and makes its
// balancers show it. The caller holds certs.mu.
func (s *Supervisor) deployCertificates(ctx context.Context, name string, all map[string]*hostCertificates, away bool) error {
	wrong := s.writeCertificates(ctx, name, all, away)
	on, host := all[name], s.hosts.at(name)
	if on == nil || len(on.lists) == 0 {
		return wrong
	}
	if err := s.updateBalancers(ctx, host, on); err != nil {
		return errors.Join(wrong, err)
	}
	if now, _ := s.changing.status(); now != nil && !s.certs.changing {
		return wrong // a balancer may still use the former files
	}
	return errors.Join(wrong, on.removeUnlisted(ctx, host, s.listsToKeep(host)))
}

// writeCertificates writes what a host should show into its state directory.
func (s *Supervisor) writeCertificates(ctx context.Context, name string, all map[string]*hostCertificates, away bool) error {
	on := all[name]
	if on == nil {
		return errors.New("the files of its certificates cannot be read now")
	}
	host := s.hosts.at(name)
	good := s.checkAllWithHAProxy(ctx, host, on, all, away)
	decided := map[string]*certificate.Pair{}
	lists := map[string]string{}
	var wrong error

	for _, entry := range s.stack().CertificateEntries() {
		list := plan.CertificateListOf(entry.Listen)
		var order strings.Builder
		for _, id := range s.certificateOrder(on, all, away, entry, list) {
			best, known := decided[id]
			if !known {
				best = s.decideCertificate(ctx, host, on, on.choose(id, all, away), id, good)
				decided[id] = best
			}
			if best != nil {
				order.WriteString(id + "\n")
			}
		}
		if order.Len() == 0 {
			wrong = errors.Join(wrong, on.noCertificateError(entry, list))
			continue
		}
		lists[list] = order.String()
	}
	for _, list := range s.listsOn(host) { // lists of which the stack has no entry stay as they are
		if _, written := lists[list]; written || on.lists[list] == "" {
			continue
		}
		lists[list] = on.lists[list]
		for _, id := range strings.Fields(on.lists[list]) {
			if has, there := on.has[id]; there && decided[id] == nil {
				decided[id] = &has
			}
		}
	}
	return errors.Join(wrong, on.write(ctx, host, lists, decided))
}

// ensureCertificateLists makes sure that all hosts with balancers have the lists of certificates
// that the stack's configurations name, before a balancer gets such a configuration.
func (s *Supervisor) ensureCertificateLists(ctx context.Context) error {
	entries := s.stack().CertificateEntries()
	if len(entries) == 0 {
		return nil
	}
	s.certs.mu.Lock()
	defer s.certs.mu.Unlock()
	all, away := s.readEntryCertificates(ctx)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		lacks := func() bool {
			return slices.ContainsFunc(entries, func(e stack.CertificateEntry) bool { return all[name].lists[plan.CertificateListOf(e.Listen)] == "" })
		}
		if !lacks() {
			continue
		}
		if err := s.writeCertificates(ctx, name, all, away); err != nil && lacks() {
			return fmt.Errorf("the balancers of host %s would have no certificates: %w", quote.Shell(name), err)
		}
	}
	return nil
}

// certificateOrder returns the ids of the certificates of an entry, in the order of the stack file.
// A certificate from a directory stays until it was missing on all hosts in two looks.
func (s *Supervisor) certificateOrder(on *hostCertificates, all map[string]*hostCertificates, away bool, entry stack.CertificateEntry, list string) []string {
	var order []string
	if entry.Directory == "" {
		for _, source := range on.sources {
			if source.list == list {
				order = append(order, source.id)
			}
		}
		return order
	}
	files := map[string]string{}
	for _, host := range all {
		for _, source := range host.sources {
			if source.list == list {
				files[source.id] = source.file
				away = away || source.unread
			}
		}
	}
	order = slices.SortedFunc(maps.Keys(files), func(a, b string) int { return strings.Compare(files[a], files[b]) })
	for _, id := range strings.Fields(on.lists[list]) {
		if _, there := files[id]; there {
			delete(on.lastErrors, id+" gone from "+list)
		} else if away || on.seenFirst(id+" gone from "+list, fs.ErrNotExist) {
			order = append(order, id)
		}
	}
	return order
}

// seenFirst reports whether an error is seen for the first time: the file may just be being
// written.
func (on *hostCertificates) seenFirst(what string, err error) bool {
	before := on.lastErrors[what]
	on.lastErrors[what] = err.Error()
	return before != err.Error()
}

// decideCertificate returns the certificate that a host finally shows; nil: none. good has the
// digests of certificates that HAProxy has already accepted.
func (s *Supervisor) decideCertificate(ctx context.Context, host home, on *hostCertificates, c choice, id string, good map[string]bool) *certificate.Pair {
	has, there := on.has[id]
	stays := func(why error) *certificate.Pair {
		if text := quote.Text(why.Error()); on.refused[id] != text {
			s.log.Warn("a certificate of an entry is refused", "file", on.fileOf(id), "host", host.name, "why", text, "the one before stays", there)
			on.refused[id] = text
		}
		if !there {
			return nil
		}
		return &has
	}

	switch {
	case c.wrong == nil || errors.Is(c.wrong, fs.ErrNotExist) && c.elsewhere:
		delete(on.lastErrors, id)
	case there && on.seenFirst(id, c.wrong):
		return &has
	default:
		if kept := stays(c.wrong); !c.elsewhere {
			return kept
		}
	}
	if c.best == nil {
		return nil
	}
	if there && has.Digest == c.best.Digest {
		if c.wrong == nil || errors.Is(c.wrong, fs.ErrNotExist) {
			delete(on.refused, id)
		}
		return &has
	}

	if !good[c.best.Digest] {
		if t, tried := on.tried[c.best.Digest]; tried && time.Since(t.at) < tryAgain {
			return stays(t.why)
		}
		if err := s.checkWithHAProxy(ctx, host, *c.best); err != nil {
			if errors.Is(err, errHAProxyRefuses) {
				on.tried[c.best.Digest] = refusal{err, time.Now()}
			}
			return stays(err)
		}
		delete(on.tried, c.best.Digest)
	}

	if c.wrong == nil || errors.Is(c.wrong, fs.ErrNotExist) {
		delete(on.refused, id)
	}
	gap := c.best.Gap()
	if on.gaps[id] = gap; gap != "" {
		s.log.Warn("a certificate of an entry lacks its chain", "file", on.fileOf(id), "host", host.name, "why", quote.Text(gap))
	}
	s.log.Info("an entry shows another certificate", "file", on.fileOf(id), "host", host.name, "names", certificate.Subject(c.best.Leaf), "ends", c.best.Leaf.NotAfter)
	return c.best
}

// fileOf returns the file that a certificate comes from.
func (on *hostCertificates) fileOf(id string) string {
	if source := on.source(id); source != nil {
		return source.file
	}
	return id
}

// noCertificateError returns the error of an entry that has no certificate at all.
func (on *hostCertificates) noCertificateError(entry stack.CertificateEntry, list string) error {
	for _, source := range on.sources {
		if source.list == list && source.wrong != nil {
			return fmt.Errorf("%s: %s: %w", entry.Key(), quote.Shell(source.file), source.wrong)
		}
	}
	return fmt.Errorf("%s: there is no certificate in the directory", entry.Key())
}

var errHAProxyRefuses = errors.New("HAProxy refuses it")

// checkWithHAProxy makes HAProxy check certificates before a balancer gets them, because a broken
// one would keep a balancer from starting.
func (s *Supervisor) checkWithHAProxy(ctx context.Context, host home, pairs ...certificate.Pair) error {
	beside := s.balancersOn(host)
	if len(beside) == 0 {
		return errors.New("no balancer is on the host any more")
	}
	haproxy := s.program(beside[0].Node, beside[0].Program)
	write := func(content string) (path string, done func(), err error) {
		name := strings.Replace(checkedConfigs, "*", rand.Text(), 1) // if it stays, sweep removes it
		err = host.Write(ctx, machine.File{Name: name, Mode: 0o600, Content: []byte(content), InPlace: true})
		return host.Path(name), func() { _ = host.Remove(s.ctx, name) }, err
	}
	var files []string
	for _, pair := range pairs {
		file, done, err := write(string(pair.PEM))
		defer done()
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	check, err := plan.CertificateCheck(files)
	if err != nil {
		return err
	}
	config, done, err := write(check)
	defer done()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reloadLimit)
	defer cancel()
	out, err := host.Run(ctx, haproxy, "-c", "-f", config)
	switch {
	case err != nil:
		return fmt.Errorf("have HAProxy look at it: %w", err)
	case out.Code != 0:
		return fmt.Errorf("%w: %s", errHAProxyRefuses, quote.Cut(strings.TrimSpace(string(out.Text)), longDetail))
	}
	return nil
}

// checkAllWithHAProxy makes HAProxy check all certificates that are new to a host at once, because
// a process for each takes long if there are many. It returns the digests of those that are good.
// If it returns none, each has to be checked on its own.
func (s *Supervisor) checkAllWithHAProxy(ctx context.Context, host home, on *hostCertificates, all map[string]*hostCertificates, away bool) map[string]bool {
	var fresh []certificate.Pair
	good := map[string]bool{}
	for id := range on.byID {
		c := on.choose(id, all, away)
		if c.best == nil || time.Since(on.tried[c.best.Digest].at) < tryAgain {
			continue
		}
		if on.has[id].Digest != c.best.Digest && !good[c.best.Digest] {
			fresh, good[c.best.Digest] = append(fresh, *c.best), true
		}
	}
	if len(fresh) < 2 || s.checkWithHAProxy(ctx, host, fresh...) != nil {
		return nil
	}
	return good
}

// write writes certificates and their lists into a host's state directory.
func (on *hostCertificates) write(ctx context.Context, host home, lists map[string]string, decided map[string]*certificate.Pair) error {
	if err := host.MakeDir(ctx, plan.CertificatesDir); err != nil {
		return err
	}
	put := func(name string, content []byte) error {
		if has, there := on.disk[path.Base(name)]; there && bytes.Equal(has, content) {
			return nil
		}
		if err := host.Write(ctx, machine.File{Name: name, Mode: 0o600, Content: content}); err != nil {
			return err
		}
		on.disk[path.Base(name)] = content
		return nil
	}
	for id, pair := range decided {
		if pair == nil {
			continue
		}
		if err := put(path.Join(plan.CertificatesDir, id), pair.PEM); err != nil {
			return err
		}
		on.has[id] = *pair
	}
	for list, order := range lists {
		if err := put(list, []byte(order)); err != nil {
			return err
		}
		on.lists[list] = order
	}
	return nil
}

// updateBalancers makes the balancers of a host show what its state directory has.
func (s *Supervisor) updateBalancers(ctx context.Context, host home, on *hostCertificates) (wrong error) {
	wanted := deployedCertificates{maps.Clone(on.lists), map[string]string{}}
	for id := range on.shownIDs() {
		wanted.digests[id] = on.has[id].Digest
	}
	for _, p := range s.balancersOn(host) {
		has := on.deployed[p.Node]
		if maps.Equal(has.lists, wanted.lists) && maps.Equal(has.digests, wanted.digests) {
			continue
		}
		if st, _ := s.statusBoard.snapshot().Node(p.Node); st.State != Up {
			continue // it reads the files when it starts
		}
		if err := s.updateBalancer(ctx, p, host, on, wanted); err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("%s: %w", p.Node, err))
			continue
		}
		on.deployed[p.Node] = wanted
	}
	return wrong
}

// balancersOn returns the processes of the balancers of a host.
func (s *Supervisor) balancersOn(host home) (all []plan.Process) {
	for _, h := range s.Plan().Hosts {
		if s.hosts.at(h.Name).name != host.name {
			continue
		}
		all = append(all, s.balancersIn(h)...)
	}
	return all
}

// balancersIn returns the processes of the balancers of a plan's host.
func (s *Supervisor) balancersIn(h plan.Host) (all []plan.Process) {
	for _, p := range h.Processes {
		if p.Kind == plan.Balancer {
			all = append(all, p)
		}
	}
	return all
}

// takeUpLimit is how long a balancer may take for one certificate, in addition to
// certificateLimit for all of them.
const takeUpLimit = 50 * time.Millisecond

// updateBalancer makes one balancer show the certificates: it sends changed ones through the
// runtime socket, and reloads the balancer if the list is another one. A certificate that the
// balancer refuses does not delay the others.
func (s *Supervisor) updateBalancer(ctx context.Context, p plan.Process, host home, on *hostCertificates, wanted deployedCertificates) (wrong error) {
	limited, cancel := context.WithTimeout(ctx, certificateLimit+time.Duration(len(wanted.digests))*takeUpLimit)
	defer cancel()
	b, has, done := s.balancer(p), on.deployed[p.Node].digests, map[string]bool{}
	for _, list := range s.listsOf(p.Node) {
		if on.lists[list] == "" {
			continue // there is no certificate for it yet
		}
		ids := strings.Fields(on.lists[list])
		shows, err := b.ListCertificates(limited, host.Path(list))
		if err != nil && !errors.Is(err, haproxy.ErrNoList) {
			return err
		}
		if err != nil || !slices.EqualFunc(shows, ids, func(shown haproxy.ListedCertificate, id string) bool {
			return shown.Path == host.Path(plan.CertificatesDir, id)
		}) {
			return s.reloadCertificates(ctx, p.Node)
		}
		for i, id := range ids {
			pair := on.has[id]
			if done[id] || showsChain(shows[i], pair) && (has == nil || has[id] == pair.Digest) {
				continue
			}
			done[id] = true
			if err := b.SetCertificate(limited, shows[i].Path, string(pair.PEM)); err != nil {
				wrong = errors.Join(wrong, fmt.Errorf("%s: %w", quote.Shell(on.fileOf(id)), err))
			}
		}
	}
	return wrong
}

// showsChain reports whether a balancer shows a certificate with its chain, as far as it reports
// that.
func showsChain(shown haproxy.ListedCertificate, pair certificate.Pair) bool {
	return shown.SHA1 == certificate.SHA1(pair.Leaf) && slices.EqualFunc(shown.Chain, pair.Chain, func(says string, c *x509.Certificate) bool {
		subject, issuer, _ := strings.Cut(says, " by ")
		return strings.Contains(subject, c.Subject.CommonName) && strings.Contains(issuer, c.Issuer.CommonName)
	})
}

// reloadCertificates makes a balancer read another list of certificates.
func (s *Supervisor) reloadCertificates(ctx context.Context, name string) error {
	if now, _ := s.changing.status(); now != nil && !s.certs.changing {
		return errors.New("a change is under way")
	}
	now, _ := s.current()
	to, there := now.nodePlan(name)
	if !there {
		return nil // it is gone
	}
	x := stepper{sup: s, step: plan.Step{Node: name, Action: plan.Reload}, log: s.log.With("node", name)}
	return x.reload(ctx, to)
}

// reportCertificates sets what the hosts show in the status.
func (s *Supervisor) reportCertificates(all map[string]*hostCertificates) {
	var entries []CertificateStatus
	for _, name := range slices.Sorted(maps.Keys(all)) {
		on := all[name]
		named := on.shownIDs()
		var ids []string
		seen := map[string]bool{}
		add := func(id string) {
			if !seen[id] {
				ids, seen[id] = append(ids, id), true
			}
		}
		for _, source := range on.sources {
			add(source.id)
		}
		for _, id := range slices.Sorted(maps.Keys(named)) {
			add(id)
		}
		for _, id := range ids {
			c := CertificateStatus{File: on.fileOf(id), Host: name, Refused: on.refused[id]}
			if has, there := on.has[id]; there && named[id] {
				c.Names, c.Ends, c.Fingerprint, c.Gap = certificate.Names(has.Leaf), has.Leaf.NotAfter, has.Fingerprint, on.gaps[id]
			} else if c.Refused == "" {
				continue
			}
			entries = append(entries, c)
		}
	}
	s.certs.statusMu.Lock()
	defer s.certs.statusMu.Unlock()
	s.certs.status = mergeAlike(entries, len(all))
}

// mergeAlike merges the entries of a certificate that all hosts show into one without a host.
func mergeAlike(all []CertificateStatus, hosts int) (merged []CertificateStatus) {
	type kind struct{ file, fingerprint, refused string }
	same := map[kind]int{}
	for _, c := range all {
		same[kind{c.File, c.Fingerprint, c.Refused}]++
	}
	for _, c := range all {
		switch k := (kind{c.File, c.Fingerprint, c.Refused}); same[k] {
		case hosts:
			c.Host = ""
			same[k] = -1
		case -1: // it is in the result already
			continue
		}
		merged = append(merged, c)
	}
	return merged
}

// certificateStatus returns the certificates of the entries, for the status.
func (s *Supervisor) certificateStatus() []CertificateStatus {
	s.certs.statusMu.Lock()
	defer s.certs.statusMu.Unlock()
	return s.certs.status
}
