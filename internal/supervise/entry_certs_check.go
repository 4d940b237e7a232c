package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"holdfast/internal/certificate"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
)

// This file finds what is wrong with the certificates that a stack file names, and what
// deserves a warning.

// reader reads a file that a stack file names, or the files of a directory.
type reader func(file string) (machine.OutsideFiles, error)

// sourcesOf returns the certificates that a reference of a stack file leads to; empty if the
// reference is of another kind.
func sourcesOf(r stack.Reference, read reader) (all []certificateSource) {
	list := plan.CertificateListOf(r.Listen)
	switch r.Kind {
	case stack.Certificate:
		source := certificateSource{id: certificateID(r.Path), file: r.Path, list: list}
		source.pair, source.wrong = readPair(r, read)
		all = append(all, source)
	case stack.Certificates:
		is, err := read(r.Path)
		if err == nil && is.Files["."] != nil {
			err = errors.New("it is a file: write a directory, or the file below \"certificates\"")
		}
		var found []certificate.Source
		if err == nil {
			wrong := map[string]error{}
			for name, why := range is.Wrong {
				wrong[name] = unreadable(path.Join(r.Path, name), why)
			}
			found = certificate.Folder(is.Files, wrong)
		}
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("there is no certificate in it: files end with %s", strings.Join(certificate.Endings(), ", "))
		}
		if err != nil {
			all = append(all, certificateSource{id: certificateID(r.Path), file: r.Path, list: list, wrong: err, unread: true})
		}
		for _, f := range found {
			name := path.Join(r.Path, f.Name)
			source := certificateSource{id: certificateID(name), file: name, list: list, unread: f.IsFolder}
			source.pair, source.wrong = f.Read()
			all = append(all, source)
		}
	}
	return all
}

// goodAt returns the sources, with an error for each certificate that is not valid at a time.
func goodAt(sources []certificateSource, now time.Time) []certificateSource {
	all := slices.Clone(sources)
	for i := range all {
		if all[i].wrong == nil {
			all[i].wrong = all[i].pair.At(now)
		}
	}
	return all
}

// readPair reads a certificate and its key.
func readPair(r stack.Reference, read reader) (certificate.Pair, error) {
	text, err := read(r.Path)
	if err != nil {
		return certificate.Pair{}, unreadable(r.Path, err)
	}
	var key machine.OutsideFiles
	if r.Pair != "" {
		if key, err = read(r.Pair); err != nil {
			return certificate.Pair{}, unreadable(r.Pair, err)
		}
	}
	for _, of := range []machine.OutsideFiles{text, key} {
		if of.Files != nil && of.Files["."] == nil {
			return certificate.Pair{}, errors.New("it is a directory: write a file, or \"directory\" for a directory of certificates")
		}
	}
	return certificate.Read(text.Files["."], key.Files["."])
}

// unreadable returns the error of a file that cannot be read, with advice.
func unreadable(file string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &unreadableError{quote.Shell(file) + " does not exist: put the certificate there, or write where it is", err}
	case errors.Is(err, fs.ErrPermission):
		return &unreadableError{quote.Shell(file) + " cannot be read by Holdfast's user: give that user the right to read it", err}
	}
	return err
}

type unreadableError struct {
	message string
	err     error
}

func (e *unreadableError) Error() string { return e.message }
func (e *unreadableError) Unwrap() error { return e.err }

// readHere returns a reader of what a stack file in baseDir names on this machine.
func readHere(baseDir string) reader {
	return func(file string) (machine.OutsideFiles, error) {
		return machine.LookOutside(plan.Resolve(baseDir, file), "", certificate.Endings())
	}
}

// readCertificates reads the certificates of a reference on this machine. The error names all
// that are broken.
func readCertificates(r stack.Reference, baseDir string) (pairs []certificate.Pair, err error) {
	for _, source := range goodAt(sourcesOf(r, readHere(baseDir)), time.Now()) {
		if source.wrong == nil {
			pairs = append(pairs, source.pair)
			continue
		}
		what := source.wrong
		if file := quote.Shell(source.file); !strings.Contains(what.Error(), file) {
			what = fmt.Errorf("%s: %w", file, what)
		}
		err = errors.Join(err, what)
	}
	return pairs, err
}

// AdviseCertificates returns what deserves a warning about the certificates that a stack file
// names. If any of them is broken, it returns nothing.
func AdviseCertificates(s stack.Stack, baseDir string) (all []ReferenceError) {
	var pairs []certificate.Pair
	var first stack.Reference
	for _, r := range s.References() {
		if r.Kind != stack.Certificate && r.Kind != stack.Certificates {
			continue
		}
		read, err := readCertificates(r, baseDir)
		if err != nil {
			return nil // that is reported elsewhere, and other warnings may follow from it
		}
		if r.Listen == "" { // the names of a tcp entry are unknown
			if first.Kind == "" {
				first = r
			}
			pairs = append(pairs, read...)
		}
		for _, p := range read {
			if gap := p.Gap(); gap != "" {
				all = append(all, ReferenceError{r, fmt.Errorf("%s: %s", certificate.Subject(p.Leaf), gap)})
			}
		}
	}
	if len(pairs) == 0 {
		return all
	}
	var bare []string
	for _, name := range s.Names() {
		if !slices.ContainsFunc(pairs, func(p certificate.Pair) bool { return certificate.Covers(p.Leaf, name) }) {
			bare = append(bare, name)
		}
	}
	if len(bare) > 0 {
		all = append(all, ReferenceError{first, fmt.Errorf("no certificate is for %s (entry.hosts, routes): clients that come by these names refuse the connection; have one made for them", strings.Join(bare, ", "))})
	}
	return all
}

// keepsCertificate reports whether this host has a former good certificate in the place of one that
// is broken now.
func (s *Supervisor) keepsCertificate(r stack.Reference) bool {
	if r.Kind != stack.Certificate && r.Kind != stack.Certificates {
		return false
	}
	on := newHostCertificates()
	if err := on.load(s.ctx, s.hosts.here); err != nil {
		return false
	}
	_, kept := on.has[certificateID(r.Path)]
	return kept || r.Kind == stack.Certificates && slices.ContainsFunc(strings.Fields(on.lists[plan.CertificateListOf(r.Listen)]), func(id string) bool {
		_, has := on.has[id]
		return has
	})
}

// prepareCertificates makes sure that every host with balancers has certificates before the
// balancers start. Where no balancer needs any, it removes the copies of before.
func (s *Supervisor) prepareCertificates() error {
	if s.needsCertificates() {
		for _, h := range s.Plan().Hosts {
			host := s.hosts.at(h.Name)
			if s.hosts.isAbsent(h.Name) || len(s.balancersOn(host)) == 0 {
				continue
			}
			if err := s.ensureCertificates(s.ctx, host); err != nil && s.hosts.begun {
				s.log.Warn("the balancers of a host have no certificate", "host", host.name, "why", err)
			} else if err != nil {
				return err
			}
		}
	}
	s.spreadEntryCertificates(s.ctx, false)
	return nil
}
