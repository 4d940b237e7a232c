package supervise

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/certificate"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// The certificates that the entries show. What the stack file names is read on every host with
// balancers, again and again, and is copied into that host's state directory once it is found
// good: this is what its balancers read. A file that is broken changes nothing.
//
// Certificates are no part of a generation: who renews them knows nothing of Holdfast, and no
// broken one may hold a change up. On several hosts a renewal on one of them is for all.

// lookAtShownEvery is how often the files are read.
const lookAtShownEvery = 2 * time.Second

// CertificateStatus is a certificate that an entry shows, or is to show.
type CertificateStatus struct {
	// File is the name of its file, as the stack file has it.
	File string `json:"file"`
	// Host is where it is shown; empty: on all hosts with balancers.
	Host string `json:"host,omitempty"`
	// Names are those that it is for, and Ends is when it ends; empty and zero: there is none
	// that could be shown.
	Names []string  `json:"names,omitempty"`
	Ends  time.Time `json:"ends,omitzero"`
	// Fingerprint is its SHA-256 in hexadecimal digits.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Refused says why what the file has now is not shown; empty: it is.
	Refused string `json:"refused,omitempty"`
	// Gap is what its chain lacks for clients to verify it; empty: nothing that is known.
	Gap string `json:"gap,omitempty"`
}

// shown is what the supervisor knows of the certificates of the entries.
type shown struct {
	// mu is held while hosts are looked at and given certificates. changing is true while
	// a change does that itself.
	mu       sync.Mutex
	hosts    map[string]*shownOn
	changing bool

	statusMu sync.Mutex
	status   []CertificateStatus
}

// shownOn is one host with balancers.
type shownOn struct {
	// read are what was read, by the path on the host, and parsed what it has, by the
	// reference of the stack file.
	read   map[string]machine.Outside
	parsed map[stack.Reference]parsedSources
	// sources are what the files have, in the order of the stack file, and byID the first of
	// each of them.
	sources []shownSource
	byID    map[string]*shownSource
	// has are the certificates that are shown, by id, and gaps what their chains lack. has is
	// nil before they were read from the host's state directory.
	has  map[string]certificate.Pair
	gaps map[string]string
	// lists are the files that name them, by the paths in the state directory: one for each
	// entry.
	lists map[string]string
	// disk are all of these files as they are there, by their names, and digest tells whether
	// somebody else has touched them since.
	disk   map[string][]byte
	digest string
	// doubted are errors that were seen once, by id: somebody may just be writing.
	doubted map[string]string
	// refused are errors that stay, by id.
	refused map[string]string
	// tried are those certificates that HAProxy has refused, by digest.
	tried map[string]refusal
	// told is what each balancer goes by, by its name.
	told map[string]toldShown
}

// refusal is what HAProxy has said of a certificate, and when. It is asked again after a while,
// since it may be a newer one then.
type refusal struct {
	why error
	at  time.Time
}

const tryAgain = time.Minute

// toldShown is what a balancer goes by: the lists, and digests of the certificates by id.
type toldShown struct{ lists, digests map[string]string }

// parsedSources are the certificates of a reference, and what they were read from.
type parsedSources struct {
	digests string
	sources []shownSource
}

// shownSource is one certificate of the stack file as one host has it.
type shownSource struct {
	id, file string
	list     string // the file that names it in the state directory
	pair     certificate.Pair
	wrong    error // why there is no pair
	// unread is true where what is wrong is that a directory cannot be read: which
	// certificates are in it is not known.
	unread bool
}

// shownID is the name, in the state directory, of what comes from a file.
func shownID(file string) string {
	sum := sha256.Sum256([]byte(file))
	return hex.EncodeToString(sum[:8]) + ".pem"
}

// watchShown has the balancers take up certificates that have changed.
func (s *Supervisor) watchShown() {
	for s.wait(lookAtShownEvery) {
		if s.stopping.Load() {
			return
		}
		s.spreadShown(s.ctx, false)
	}
}

// spreadShown reads the files of the stack file on all hosts with balancers, and has these
// show what is good. changing is true for the change that is under way.
func (s *Supervisor) spreadShown(ctx context.Context, changing bool) {
	if len(s.stack().Showing()) == 0 && !s.namesLists() {
		return
	}
	s.shown.mu.Lock()
	defer s.shown.mu.Unlock()
	s.shown.changing = changing
	all, away := s.lookAtShown(ctx)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := s.giveShown(ctx, name, all, away); err != nil && ctx.Err() == nil {
			s.log.Warn("the balancers of a host do not show the newest certificates yet", "host", name, "why", err)
		}
	}
	s.tellShown(all)
}

// readyFor makes sure that a balancer which is about to start finds the lists of certificates
// that its configuration names; else it says why there is none.
func (s *Supervisor) readyFor(ctx context.Context, host home, node string) error {
	if err := s.readyShown(ctx, host); err != nil {
		return err
	}
	for _, list := range s.listsOf(node) {
		if !host.has(ctx, list) {
			return fmt.Errorf("its configuration names certificates that are not there any more (%s): 'holdfast apply' gives it another one", host.Path(list))
		}
	}
	return nil
}

// readyShown makes sure that a host has the lists of certificates that its balancers need, as
// far as they can be made; else it says why an entry has none.
func (s *Supervisor) readyShown(ctx context.Context, host home) error {
	if !slices.ContainsFunc(s.listsToKeep(host), func(list string) bool { return !host.has(ctx, list) }) {
		return nil
	}
	s.shown.mu.Lock()
	defer s.shown.mu.Unlock()
	all, away := s.lookAtShown(ctx)
	err := s.giveShown(ctx, host.name, all, away)
	s.tellShown(all)
	return err
}

// lookAtShown reads what the hosts with balancers have, by the name of the host. away is true
// where one of them could not be asked.
func (s *Supervisor) lookAtShown(ctx context.Context) (all map[string]*shownOn, away bool) {
	if s.shown.hosts == nil {
		s.shown.hosts = map[string]*shownOn{}
	}
	all = map[string]*shownOn{}
	for _, h := range s.Plan().Hosts {
		if !slices.ContainsFunc(h.Processes, func(p plan.Process) bool { return p.Kind == plan.Balancer }) {
			continue
		}
		host := s.hosts.at(h.Name)
		if s.hosts.lacks(h.Name) || !host.Present(ctx) {
			away = true
			continue
		}
		on := s.shown.hosts[host.name]
		if on == nil {
			on = newShownOn()
			s.shown.hosts[host.name] = on
		}
		if err := on.learn(ctx, host); err != nil {
			away = true
			continue
		}
		on.take(s.shownSources(ctx, host, on))
		all[host.name] = on
	}
	return all, away
}

func newShownOn() *shownOn {
	return &shownOn{
		read: map[string]machine.Outside{}, parsed: map[stack.Reference]parsedSources{}, gaps: map[string]string{}, lists: map[string]string{},
		disk: map[string][]byte{}, doubted: map[string]string{}, refused: map[string]string{}, tried: map[string]refusal{}, told: map[string]toldShown{},
	}
}

// take sets what the files have.
func (on *shownOn) take(sources []shownSource) {
	on.sources, on.byID = sources, make(map[string]*shownSource, len(sources))
	for i := range sources {
		if id := sources[i].id; on.byID[id] == nil {
			on.byID[id] = &sources[i]
		}
	}
}

// learn reads what the host's state directory has, once, and then again when somebody else
// has touched it.
func (on *shownOn) learn(ctx context.Context, host home) error {
	if on.has != nil {
		is, err := host.LookOutside(ctx, host.Path(plan.CertificatesDir), on.digest, []string{".pem", ""})
		switch {
		case errors.Is(err, fs.ErrNotExist):
			on.disk = map[string][]byte{} // all of them are written again
		case err == nil && is.Files != nil:
			on.disk = is.Files
			on.digest = is.Digest
		case err == nil:
			on.digest = is.Digest
		}
		return nil // nothing else follows from it: what is shown is known
	}
	names, err := host.Glob(ctx, plan.CertificateList+"*")
	if err != nil {
		return err
	}
	has, lists := map[string]certificate.Pair{}, map[string]string{}
	for _, list := range names {
		text, err := host.Read(ctx, list)
		if err != nil {
			return err
		}
		lists[list], on.disk[path.Base(list)] = string(text), text
		for _, id := range strings.Fields(string(text)) {
			if _, known := on.disk[id]; known {
				continue
			}
			text, err := host.Read(ctx, path.Join(plan.CertificatesDir, id))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if pair, err := certificate.Read(text, nil); err == nil { // one that is damaged is written anew
				has[id], on.disk[id] = pair, text
				on.gaps[id] = pair.Gap()
			}
		}
	}
	on.has, on.lists = has, lists
	return nil
}

// SelfSignedName stands in a status for the file of the certificate that Holdfast makes.
const SelfSignedName = "self-signed"

// shownSources are the certificates of the stack file as a host has them.
func (s *Supervisor) shownSources(ctx context.Context, host home, on *shownOn) (all []shownSource) {
	for _, entry := range s.stack().Showing() {
		if entry.SelfSigned {
			pair, err := s.selfSigned(ctx)
			all = append(all, shownSource{id: shownID(SelfSignedName), file: SelfSignedName, list: plan.CertificateListOf(entry.Listen), pair: pair, wrong: err})
		}
	}
	now := time.Now()
	for _, r := range s.stack().References() {
		if r.Kind == stack.Certificate || r.Kind == stack.Certificates {
			all = append(all, s.parsedSources(ctx, host, on, r, now)...)
		}
	}
	return all
}

// parsedSources are the certificates of a reference. Files that have not changed are not read
// again.
func (s *Supervisor) parsedSources(ctx context.Context, host home, on *shownOn, r stack.Reference, now time.Time) []shownSource {
	found := map[string]machine.Outside{}
	errs := map[string]error{}
	digests := ""
	for _, file := range []string{r.Path, r.Pair} {
		if file == "" {
			continue
		}
		at := plan.Resolve(s.baseDir(), file)
		was := on.read[at]
		is, err := host.LookOutside(ctx, at, was.Digest, certificate.Endings())
		switch {
		case err != nil:
			errs[file] = err
			delete(on.read, at)
		case is.Files == nil: // as before
			is.Files, is.Wrong = was.Files, was.Wrong
			fallthrough
		default:
			on.read[at], found[file] = is, is
		}
		digests += is.Digest + " "
	}
	parsed, there := on.parsed[r]
	if !there || parsed.digests != digests || len(errs) > 0 {
		parsed = parsedSources{digests, sourcesOf(r, func(file string) (machine.Outside, error) { return found[file], errs[file] })}
		on.parsed[r] = parsed
	}
	return goodAt(parsed.sources, now)
}

// SelfSignedFile is the certificate that Holdfast makes, with its key, in the state directory
// of every host.
const SelfSignedFile = "self-signed.pem"

// selfSigned is the certificate of the stack's own, which is made and renewed here.
func (s *Supervisor) selfSigned(ctx context.Context) (certificate.Pair, error) {
	now := time.Now()
	before, err := s.hosts.here.readPair(ctx, SelfSignedFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("the self-signed certificate is made anew", "why", err)
	}
	names := s.selfNames()
	if before != nil && !certificate.Renew(before.Leaf, names, now) {
		return *before, nil
	}
	made, err := certificate.SelfSigned(names, before, now)
	if err != nil {
		return certificate.Pair{}, err
	}
	if err := s.dir.writeFile(SelfSignedFile, 0o600, made.PEM); err != nil {
		return certificate.Pair{}, err
	}
	s.log.Info("made a self-signed certificate", "names", strings.Join(names, " "), "ends", made.Leaf.NotAfter)
	return made, nil
}

func (h home) readPair(ctx context.Context, name string) (*certificate.Pair, error) {
	text, err := h.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	pair, err := certificate.Read(text, nil)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

// selfNames are the names and addresses by which clients may come.
func (s *Supervisor) selfNames() []string {
	st := s.stack()
	names := slices.Concat(st.Names(), st.Addresses(), []string{"localhost", "127.0.0.1", "::1"})
	slices.Sort(names)
	return slices.Compact(names)
}

// choice is what a host is to show of a certificate.
type choice struct {
	best *certificate.Pair // nil: there is none
	// wrong is why its own file is not shown; nil: it is good.
	wrong error
	// elsewhere is true where another host has a good file.
	elsewhere bool
}

// choose returns what a host is to show: its own file's where that is good, unless another
// host has a later one for the same names; else the latest of any host, and else what it has
// shown so far.
func (on *shownOn) choose(id string, all map[string]*shownOn, away bool) (c choice) {
	own := on.source(id)
	if own == nil {
		c.wrong = fs.ErrNotExist
	} else if c.wrong = own.wrong; c.wrong == nil {
		c.best = &own.pair
	}
	better := func(other certificate.Pair) {
		switch {
		case c.best == nil, other.Leaf.NotBefore.After(c.best.Leaf.NotBefore) && certificate.CoversAll(other.Leaf, c.best.Leaf):
			c.best = &other
		case other.Digest != c.best.Digest && other.Fingerprint == c.best.Fingerprint && c.best.Gap() != "" && other.Gap() == "":
			c.best = &other // the same, with its chain
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if source := all[name].source(id); source != nil && source.wrong == nil && all[name] != on {
			better(source.pair)
			c.elsewhere = true
		}
	}
	// What came from a host that is away is good still.
	if has, there := on.has[id]; there && (c.best == nil || away) {
		better(has)
	}
	return c
}

// source is the file of a certificate; nil: there is none.
func (on *shownOn) source(id string) *shownSource { return on.byID[id] }
