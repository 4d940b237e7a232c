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
	"holdfast/internal/clock"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// This file is about the certificates that the entries show. On every host with balancers, the
// files that the stack file names are read every lookAtEntryCertificatesEvery. A certificate that
// is good is copied into the state directory of the host, where its balancers read it. A broken
// file changes nothing.
//
// Certificates are not part of a generation: the programs that renew them do not know Holdfast,
// and a broken certificate must not block a change. On several hosts, a renewal on one host is
// used on all.

// lookAtEntryCertificatesEvery is how often the files are read.
const lookAtEntryCertificatesEvery = 2 * time.Second

// CertificateStatus is a certificate that an entry shows, or should show.
type CertificateStatus struct {
	// File is the name of the file in the stack file.
	File string `json:"file"`
	// Host is the host that shows it; empty: all hosts with balancers do.
	Host string `json:"host,omitempty"`
	// Names are the names that the certificate is for, and Ends is when it expires. Both are zero
	// if there is no certificate that could be shown.
	Names []string  `json:"names,omitempty"`
	Ends  time.Time `json:"ends,omitzero"`
	// Fingerprint is the SHA-256 of the certificate in hexadecimal digits.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Refused is why the current content of the file is not shown; empty: it is shown.
	Refused string `json:"refused,omitempty"`
	// Gap is what the chain lacks for clients to verify the certificate; empty: nothing is known
	// to be missing.
	Gap string `json:"gap,omitempty"`
}

// entryCertificates is what the supervisor knows about the certificates of the entries.
type entryCertificates struct {
	// mu is held while hosts are read and given certificates. changing is true while a change does
	// that itself.
	mu       sync.Mutex
	hosts    map[string]*hostCertificates
	changing bool
	// cleared has the hosts whose balancers need no certificates. It is true for those where the
	// copies of before are gone.
	cleared map[string]bool

	statusMu sync.Mutex
	status   []CertificateStatus
}

// hostCertificates are the certificates of the entries on one host with balancers.
type hostCertificates struct {
	// read has what was read, by the path on the host. parsed has the certificates of it, by the
	// reference in the stack file.
	read   map[string]machine.OutsideFiles
	parsed map[stack.Reference]parsedSources
	// sources are the certificates of the files, in the order of the stack file. byID has the
	// first source with each id.
	sources []certificateSource
	byID    map[string]*certificateSource
	// has are the certificates that are shown, by id, and gaps is what their chains lack. has is
	// nil until they have been read from the host's state directory.
	has  map[string]certificate.Pair
	gaps map[string]string
	// lists has the files that name the certificates, by their paths in the state directory: one
	// for each entry.
	lists map[string]string
	// disk has the content of all these files by name, and digest shows whether somebody else has
	// changed them since.
	disk   map[string][]byte
	digest string
	// lastErrors has errors that were seen once, by id: the file may just be being written.
	lastErrors map[string]string
	// refused has errors that were seen again, by id.
	refused map[string]string
	// tried has the certificates that HAProxy has refused, by digest.
	tried map[string]refusal
	// deployed has what each balancer was last told to show, by its name.
	deployed map[string]deployedCertificates
}

// refusal is what HAProxy said about a certificate, and when. The certificate is tried again
// after tryAgain, because HAProxy may be a newer one by then.
type refusal struct {
	why error
	at  time.Time
}

const tryAgain = time.Minute

// deployedCertificates is what a balancer was told to show: the lists, and the digests of the
// certificates by id.
type deployedCertificates struct{ lists, digests map[string]string }

// parsedSources are the certificates of a reference, and digests of the files that they were
// read from.
type parsedSources struct {
	digests string
	sources []certificateSource
}

// certificateSource is one certificate of the stack file as one host has it.
type certificateSource struct {
	id, file string
	list     string // the list in the state directory that names it
	pair     certificate.Pair
	wrong    error // why pair is not set, or not to be shown
	// unread is true if a directory cannot be read, so that it is not known which certificates are
	// in it.
	unread bool
}

// certificateID returns the name, in the state directory, for the certificate of a file.
func certificateID(file string) string {
	sum := sha256.Sum256([]byte(file))
	return hex.EncodeToString(sum[:8]) + ".pem"
}

// watchEntryCertificates makes the balancers use certificates that have changed.
func (s *Supervisor) watchEntryCertificates() {
	for clock.Sleep(s.ctx, lookAtEntryCertificatesEvery) {
		if s.stopping.Load() {
			return
		}
		s.spreadEntryCertificates(s.ctx, false)
	}
}

// spreadEntryCertificates reads the files of the stack file on all hosts with balancers, and makes
// these show the good certificates. changing is true if the change that is under way calls it.
func (s *Supervisor) spreadEntryCertificates(ctx context.Context, changing bool) {
	s.certs.mu.Lock()
	defer s.certs.mu.Unlock()
	s.certs.changing = changing

	var all map[string]*hostCertificates
	var away bool
	if s.needsCertificates() {
		all, away = s.readEntryCertificates(ctx)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := s.deployCertificates(ctx, name, all, away); err != nil && ctx.Err() == nil {
			s.log.Warn("the balancers of a host do not show the newest certificates yet", "host", name, "why", err)
		}
	}
	s.reportCertificates(all)
	s.clearCertificates(ctx)
}

// ensureCertificatesFor makes sure that a balancer which is about to start finds the lists of
// certificates that its configuration names. It returns an error if a list cannot be made.
func (s *Supervisor) ensureCertificatesFor(ctx context.Context, host home, node string) error {
	if err := s.ensureCertificates(ctx, host); err != nil {
		return err
	}
	for _, list := range s.listsOf(node) {
		if !host.has(ctx, list) {
			return fmt.Errorf("its configuration names certificates that are not there any more (%s): 'holdfast apply' gives it another one", host.Path(list))
		}
	}
	return nil
}

// ensureCertificates makes sure that a host has the lists of certificates that its balancers need,
// as far as they can be made. It returns why an entry has none.
func (s *Supervisor) ensureCertificates(ctx context.Context, host home) error {
	if !slices.ContainsFunc(s.listsToKeep(host), func(list string) bool { return !host.has(ctx, list) }) {
		return nil
	}
	s.certs.mu.Lock()
	defer s.certs.mu.Unlock()
	all, away := s.readEntryCertificates(ctx)
	err := s.deployCertificates(ctx, host.name, all, away)
	s.reportCertificates(all)
	return err
}

// readEntryCertificates reads the certificates of the hosts with balancers, and returns them by
// host. away is true if a host could not be asked.
func (s *Supervisor) readEntryCertificates(ctx context.Context) (all map[string]*hostCertificates, away bool) {
	if s.certs.hosts == nil {
		s.certs.hosts = map[string]*hostCertificates{}
	}
	all = map[string]*hostCertificates{}
	for _, h := range s.Plan().Hosts {
		if !slices.ContainsFunc(h.Processes, func(p plan.Process) bool { return p.Kind == plan.Balancer }) {
			continue
		}
		host := s.hosts.at(h.Name)
		if s.hosts.isAbsent(h.Name) || !host.Present(ctx) {
			away = true
			continue
		}
		on := s.certs.hosts[host.name]
		if on == nil {
			on = newHostCertificates()
			s.certs.hosts[host.name] = on
		}
		if err := on.load(ctx, host); err != nil {
			away = true
			continue
		}
		on.setSources(s.certificateSources(ctx, host, on))
		all[host.name] = on
	}
	return all, away
}

func newHostCertificates() *hostCertificates {
	return &hostCertificates{
		read: map[string]machine.OutsideFiles{}, parsed: map[stack.Reference]parsedSources{}, gaps: map[string]string{}, lists: map[string]string{},
		disk: map[string][]byte{}, lastErrors: map[string]string{}, refused: map[string]string{}, tried: map[string]refusal{}, deployed: map[string]deployedCertificates{},
	}
}

// setSources sets sources and byID.
func (on *hostCertificates) setSources(sources []certificateSource) {
	on.sources, on.byID = sources, make(map[string]*certificateSource, len(sources))
	for i := range sources {
		if id := sources[i].id; on.byID[id] == nil {
			on.byID[id] = &sources[i]
		}
	}
}

// load reads the certificates in the host's state directory once, and then again when somebody
// else has changed it.
func (on *hostCertificates) load(ctx context.Context, host home) error {
	if on.has != nil {
		is, err := host.LookOutside(ctx, host.Path(plan.CertificatesDir), on.digest, []string{".pem", ""})
		switch {
		case errors.Is(err, fs.ErrNotExist):
			on.disk = map[string][]byte{} // all files are written again
		case err == nil && is.Files != nil:
			on.disk = is.Files
			on.digest = is.Digest
		case err == nil:
			on.digest = is.Digest
		}
		return nil // what is shown stays known
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
			if pair, err := certificate.Read(text, nil); err == nil { // a damaged one is written again
				has[id], on.disk[id] = pair, text
				on.gaps[id] = pair.Gap()
			}
		}
	}

	on.has, on.lists = has, lists
	return nil
}

// SelfSignedName is the file name in a status for the certificate that Holdfast makes.
const SelfSignedName = "self-signed"

// certificateSources returns the certificates of the stack file as a host has them.
func (s *Supervisor) certificateSources(ctx context.Context, host home, on *hostCertificates) (all []certificateSource) {
	for _, entry := range s.stack().CertificateEntries() {
		if entry.SelfSigned {
			pair, err := s.selfSigned(ctx)
			all = append(all, certificateSource{id: certificateID(SelfSignedName), file: SelfSignedName, list: plan.CertificateListOf(entry.Listen), pair: pair, wrong: err})
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

// parsedSources returns the certificates of a reference. Files that have not changed are not
// read again.
func (s *Supervisor) parsedSources(ctx context.Context, host home, on *hostCertificates, r stack.Reference, now time.Time) []certificateSource {
	found := map[string]machine.OutsideFiles{}
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
		parsed = parsedSources{digests, sourcesOf(r, func(file string) (machine.OutsideFiles, error) { return found[file], errs[file] })}
		on.parsed[r] = parsed
	}
	return goodAt(parsed.sources, now)
}

// SelfSignedFile has the certificate that Holdfast makes, with its key, in the state directory
// of every host.
const SelfSignedFile = "self-signed.pem"

// selfSigned returns the stack's own certificate, which it makes and renews.
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

// selfNames returns the names and addresses by which clients may connect.
func (s *Supervisor) selfNames() []string {
	st := s.stack()
	names := slices.Concat(st.Names(), st.Addresses(), []string{"localhost", "127.0.0.1", "::1"})
	slices.Sort(names)
	return slices.Compact(names)
}

// choice is what a host should show for one certificate.
type choice struct {
	best *certificate.Pair // nil: there is none
	// wrong is why the host's own file is not shown; nil: it is good.
	wrong error
	// elsewhere is true if another host has a good file.
	elsewhere bool
}

// choose returns what a host should show. If its own file is good, it is the certificate of
// that file, unless another host has a later one for the same names. Otherwise it is the latest
// one of any host, and otherwise what the host has shown so far.
func (on *hostCertificates) choose(id string, all map[string]*hostCertificates, away bool) (c choice) {
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
	// A certificate from a host that is away is still good.
	if has, there := on.has[id]; there && (c.best == nil || away) {
		better(has)
	}
	return c
}

// source returns the first source with an id; nil: there is none.
func (on *hostCertificates) source(id string) *certificateSource { return on.byID[id] }
