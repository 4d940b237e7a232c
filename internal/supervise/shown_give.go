package supervise

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"holdfast/internal/certificate"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
)

// How a host comes to show certificates: they are written into its state directory, whole or
// not at all, and then its balancers take them up. One that starts reads them there.

// giveShown writes what a host is to show into its state directory, and has its balancers
// take it up. The caller holds shown.mu.
func (s *Supervisor) giveShown(ctx context.Context, name string, all map[string]*shownOn, away bool) error {
	on := all[name]
	if on == nil {
		return errors.New("the files of its certificates cannot be read now")
	}
	host := s.hosts.at(name)
	var order []string
	wanted := map[string]certificate.Pair{}
	for _, id := range s.shownOrder(on, all, away) {
		if best := s.decideShown(ctx, host, on, on.choose(id, all, away), id); best != nil {
			order, wanted[id] = append(order, id), *best
		}
	}
	if len(order) == 0 {
		return on.nothing()
	}
	if err := on.write(ctx, host, order, wanted); err != nil {
		return err
	}
	if err := s.balancersShow(ctx, host, on); err != nil {
		return err
	}
	return on.forget(ctx, host)
}

// shownOrder are the ids of the certificates in the order of the stack file. What was in a
// directory stays until it was missing twice, everywhere.
func (s *Supervisor) shownOrder(on *shownOn, all map[string]*shownOn, away bool) []string {
	files := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, source := range all[name].sources {
			files[source.id] = source.file
		}
	}
	var order []string
	if t := s.stack().Entry.TLS; t.Directory == "" {
		for _, source := range on.sources {
			order = append(order, source.id)
		}
		return order
	} else if _, unread := files[shownID(t.Directory)]; unread {
		away = true
	}
	order = slices.SortedFunc(maps.Keys(files), func(a, b string) int { return strings.Compare(files[a], files[b]) })
	for id := range strings.Lines(on.list) {
		id = strings.TrimSpace(id)
		if _, there := files[id]; there {
			delete(on.doubted, id+" gone")
		} else if away || on.doubt(id+" gone", fs.ErrNotExist) {
			order = append(order, id)
		}
	}
	return order
}

// doubt reports whether an error is seen for the first time: somebody may just be writing.
func (on *shownOn) doubt(what string, err error) bool {
	before := on.doubted[what]
	on.doubted[what] = err.Error()
	return before != err.Error()
}

// decideShown is what a host shows of a certificate, after all; nil: nothing.
func (s *Supervisor) decideShown(ctx context.Context, host home, on *shownOn, c choice, id string) *certificate.Pair {
	has, there := on.has[id]
	stays := func(why error) *certificate.Pair {
		if text := quote.Text(why.Error()); on.refused[id] != text {
			s.log.Warn("a certificate of the entry is refused", "file", on.fileOf(id), "host", host.name, "why", text, "the one before stays", there)
			on.refused[id] = text
		}
		if !there {
			return nil
		}
		return &has
	}
	switch {
	case c.wrong == nil || errors.Is(c.wrong, fs.ErrNotExist) && c.elsewhere:
		delete(on.doubted, id)
	case there && on.doubt(id, c.wrong):
		return &has
	default:
		if kept := stays(c.wrong); !c.elsewhere {
			return kept
		}
	}
	if c.best == nil {
		return nil
	}
	if there && string(has.PEM) == string(c.best.PEM) {
		if c.wrong == nil {
			delete(on.refused, id)
		}
		return &has
	}
	if err := s.tryShown(ctx, host, *c.best); err != nil {
		return stays(err)
	}
	if c.wrong == nil || errors.Is(c.wrong, fs.ErrNotExist) {
		delete(on.refused, id)
	}
	s.log.Info("the entry shows another certificate", "file", on.fileOf(id), "host", host.name, "names", certificate.Subject(c.best.Leaf), "ends", c.best.Leaf.NotAfter)
	return c.best
}

// fileOf is the file that a certificate comes from.
func (on *shownOn) fileOf(id string) string {
	if source := on.source(id); source != nil {
		return source.file
	}
	return id
}

// nothing is the error of a host that has no certificate at all.
func (on *shownOn) nothing() error {
	for _, source := range on.sources {
		if source.wrong != nil {
			return fmt.Errorf("entry.tls: %s: %w", quote.Shell(source.file), source.wrong)
		}
	}
	return errors.New("entry.tls: there is no certificate in the directory")
}

// tryShown has HAProxy look at a certificate before a balancer gets it: a broken one would
// keep it from starting.
func (s *Supervisor) tryShown(ctx context.Context, host home, pair certificate.Pair) error {
	beside := s.balancersOn(host)
	if len(beside) == 0 {
		return errors.New("no balancer is on the host any more")
	}
	haproxy := s.program(beside[0].Node, beside[0].Program)
	// Both are swept when they stay.
	names := []string{strings.Replace(checkedConfigs, "*", rand.Text(), 1), strings.Replace(checkedConfigs, "*", rand.Text(), 1)}
	check, err := plan.CertificateCheck(host.Path(names[0]))
	if err != nil {
		return err
	}
	for i, content := range []string{string(pair.PEM), check} {
		defer func() { _ = host.Remove(s.ctx, names[i]) }()
		if err := host.Write(ctx, machine.File{Name: names[i], Mode: 0o600, Content: []byte(content), InPlace: true}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, reloadLimit)
	defer cancel()
	out, err := host.Run(ctx, haproxy, "-c", "-f", host.Path(names[1]))
	switch {
	case err != nil:
		return fmt.Errorf("have HAProxy look at it: %w", err)
	case out.Code != 0:
		return fmt.Errorf("HAProxy refuses it: %s", quote.Cut(strings.TrimSpace(string(out.Text)), longDetail))
	}
	return nil
}

// write writes certificates and their list into a host's state directory.
func (on *shownOn) write(ctx context.Context, host home, order []string, wanted map[string]certificate.Pair) error {
	if err := host.MakeDir(ctx, plan.CertificatesDir); err != nil {
		return err
	}
	for id, pair := range wanted {
		if has, there := on.has[id]; there && string(has.PEM) == string(pair.PEM) {
			continue
		}
		if err := host.Write(ctx, machine.File{Name: path.Join(plan.CertificatesDir, id), Mode: 0o600, Content: pair.PEM}); err != nil {
			return err
		}
		on.has[id] = pair
	}
	list := strings.Join(order, "\n") + "\n"
	if list == on.list {
		return nil
	}
	if err := host.Write(ctx, machine.File{Name: plan.CertificateList, Mode: 0o600, Content: []byte(list)}); err != nil {
		return err
	}
	on.list = list
	return nil
}

// ids are those that are shown, in order.
func (on *shownOn) ids() []string { return strings.Fields(on.list) }

// forget removes what is not shown any more from a host's state directory.
func (on *shownOn) forget(ctx context.Context, host home) error {
	for id := range on.has {
		if slices.Contains(on.ids(), id) {
			continue
		}
		if err := host.Remove(ctx, path.Join(plan.CertificatesDir, id)); err != nil {
			return err
		}
		delete(on.has, id)
		delete(on.refused, id)
	}
	return nil
}

// balancersShow has the balancers of a host show what its state directory has.
func (s *Supervisor) balancersShow(ctx context.Context, host home, on *shownOn) error {
	wanted := toldShown{on.list, map[string]string{}}
	for _, id := range on.ids() {
		sum := sha256.Sum256(on.has[id].PEM)
		wanted.digests[id] = string(sum[:])
	}
	for _, p := range s.balancersOn(host) {
		told := on.told[p.Node]
		if told.list == wanted.list && maps.Equal(told.digests, wanted.digests) {
			continue
		}
		if st, _ := s.board.snapshot().Node(p.Node); st.State != Up {
			continue // it reads the files when it starts
		}
		if err := s.balancerShows(ctx, p, host, on, wanted); err != nil {
			return fmt.Errorf("%s: %w", p.Node, err)
		}
		on.told[p.Node] = wanted
	}
	return nil
}

// balancersOn are the processes of the balancers of a host.
func (s *Supervisor) balancersOn(host home) (all []plan.Process) {
	for _, h := range s.Plan().Hosts {
		if s.hosts.at(h.Name).name != host.name {
			continue
		}
		for _, p := range h.Processes {
			if p.Kind == plan.Balancer {
				all = append(all, p)
			}
		}
	}
	return all
}

// balancerShows has one balancer show it: certificates that have changed by its socket, and
// others than before by a reload.
func (s *Supervisor) balancerShows(ctx context.Context, p plan.Process, host home, on *shownOn, wanted toldShown) error {
	limited, cancel := context.WithTimeout(ctx, certificateLimit)
	defer cancel()
	b := s.balancer(p)
	paths, prints, err := b.Fingerprints(limited, host.Path(plan.CertificateList))
	if err != nil {
		return err
	}
	var files []string
	for _, id := range on.ids() {
		files = append(files, host.Path(plan.CertificatesDir, id))
	}
	if !slices.Equal(paths, files) {
		return s.reloadShown(ctx, p.Node)
	}
	told := on.told[p.Node].digests
	for i, id := range on.ids() {
		if prints[i] == certificate.SHA1(on.has[id].Leaf) && (told == nil || told[id] == wanted.digests[id]) {
			continue
		}
		if err := b.SetCertificate(limited, files[i], string(on.has[id].PEM)); err != nil {
			return err
		}
	}
	return nil
}

// reloadShown has a balancer take up another list of certificates.
func (s *Supervisor) reloadShown(ctx context.Context, name string) error {
	if now, _ := s.changing.status(); now != nil && !s.shown.changing {
		return errors.New("a change is under way")
	}
	now, _ := s.current()
	to, there := now.part(name)
	if !there {
		return nil // it is gone
	}
	x := stepper{sup: s, step: plan.Step{Node: name, Action: plan.Reload}, log: s.log.With("node", name)}
	return x.reload(ctx, to)
}

// tellShown writes down what the hosts show, for the status.
func (s *Supervisor) tellShown(all map[string]*shownOn) {
	var told []CertificateStatus
	for _, name := range slices.Sorted(maps.Keys(all)) {
		on := all[name]
		var ids []string
		for _, source := range on.sources {
			ids = append(ids, source.id)
		}
		for _, id := range on.ids() {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
		for _, id := range ids {
			c := CertificateStatus{File: on.fileOf(id), Host: name, Refused: on.refused[id]}
			if has, there := on.has[id]; there && slices.Contains(on.ids(), id) {
				c.Names, c.Ends, c.Fingerprint = certificate.Names(has.Leaf), has.Leaf.NotAfter, certificate.Fingerprint(has.Leaf)
			} else if c.Refused == "" {
				continue
			}
			told = append(told, c)
		}
	}
	s.shown.statusMu.Lock()
	defer s.shown.statusMu.Unlock()
	s.shown.status = alikeShown(told, len(all))
}

// alikeShown has what all hosts show stand once, without a host.
func alikeShown(all []CertificateStatus, hosts int) (told []CertificateStatus) {
	like := func(a, b CertificateStatus) bool {
		return a.File == b.File && a.Fingerprint == b.Fingerprint && a.Refused == b.Refused
	}
	for _, c := range all {
		same := 0
		for _, other := range all {
			if like(c, other) {
				same++
			}
		}
		if same == hosts {
			c.Host = ""
		}
		if c.Host != "" || !slices.ContainsFunc(told, func(o CertificateStatus) bool { return like(c, o) }) {
			told = append(told, c)
		}
	}
	return told
}

// certificates are those that the entry shows, for the status.
func (s *Supervisor) certificates() []CertificateStatus {
	s.shown.statusMu.Lock()
	defer s.shown.statusMu.Unlock()
	return s.shown.status
}
