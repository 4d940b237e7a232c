package supervise

import (
	"context"
	"path"
	"slices"
	"strings"

	"holdfast/internal/plan"
)

// This file removes copies of certificates that no balancer needs any more. A copy has the private
// key, so it must not stay longer than it is of use.

// needsCertificates reports whether an entry of the stack or a balancer's configuration needs
// certificates.
func (s *Supervisor) needsCertificates() bool {
	return len(s.stack().CertificateEntries()) > 0 || s.namesLists()
}

// needsCertificatesOn is needsCertificates for the balancers of one host.
func (s *Supervisor) needsCertificatesOn(host home) bool {
	if !s.hosts.several {
		return s.needsCertificates() // the hosts, if there are any, share this machine's directory
	}
	return len(s.balancersOn(host)) > 0 && (len(s.stack().CertificateEntries()) > 0 || len(s.listsOn(host)) > 0)
}

// clearCertificates removes all copies from the hosts whose balancers need none. A host that is
// away keeps its copies until it is back. While a change is under way, only the change itself
// removes copies, at its end: until then it may be put back. The caller holds certs.mu.
func (s *Supervisor) clearCertificates(ctx context.Context) {
	for _, host := range s.hosts.all() {
		if s.needsCertificatesOn(host) {
			delete(s.certs.cleared, host.name)
			continue
		}
		if s.certs.cleared[host.name] || !host.Present(ctx) {
			continue
		}
		if now, _ := s.changing.status(); now != nil && !s.certs.changing {
			continue
		}

		if s.certs.cleared == nil {
			s.certs.cleared = map[string]bool{}
		}
		_, tried := s.certs.cleared[host.name]
		err := host.Remove(ctx, plan.CertificatesDir)
		if s.certs.cleared[host.name] = err == nil; err == nil {
			delete(s.certs.hosts, host.name)
		} else if !tried {
			s.log.Warn("the certificates of before stay on a host for now", "host", host.name, "why", err)
		}
	}
}

// shownIDs returns the ids of the certificates that any entry shows.
func (on *hostCertificates) shownIDs() map[string]bool {
	all := map[string]bool{}
	for _, order := range on.lists {
		for _, id := range strings.Fields(order) {
			all[id] = true
		}
	}
	return all
}

// listsToKeep returns the lists that the balancers of a host need: those of the stack's
// entries, and those that a balancer's configuration names. After a change that was stopped,
// the latter may be of an entry that the stack does not have.
func (s *Supervisor) listsToKeep(host home) []string {
	lists := s.listsOn(host)
	for _, entry := range s.stack().CertificateEntries() {
		lists = append(lists, plan.CertificateListOf(entry.Listen))
	}
	return lists
}

// removeUnlisted removes from a host's state directory what is in none of the lists to keep.
func (on *hostCertificates) removeUnlisted(ctx context.Context, host home, keep []string) error {
	for list := range on.lists {
		if slices.Contains(keep, list) {
			continue
		}
		if err := host.Remove(ctx, list); err != nil {
			return err
		}
		delete(on.lists, list)
		delete(on.disk, path.Base(list))
	}
	named := on.shownIDs()
	for id := range on.has {
		if named[id] {
			continue
		}
		if err := host.Remove(ctx, path.Join(plan.CertificatesDir, id)); err != nil {
			return err
		}
		delete(on.has, id)
		delete(on.disk, id)
		delete(on.refused, id)
		delete(on.gaps, id)
	}
	return nil
}
