package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// suite is the release of Debian from which the images are built.
const suite = "trixie"

// archive is where packages come from: Debian's archive, or a mirror of it.
type archive struct {
	main     string // the URL of the suite and its updates; empty: the one of this machine's apt
	security string // the URL of its security updates; empty likewise
	past     bool   // it is an old snapshot, whose lists have expired
	keyring  string // the file with the keys that sign the archive
	cache    string // the directory for downloads
	update   bool   // look for newer packages; otherwise the lists of a former call are used
}

// resolve sets the URLs that were not given to those of this machine's apt.
func (a *archive) resolve(ctx context.Context) error {
	if a.main != "" && a.security != "" {
		return nil
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages").Output()
	if err != nil {
		return fmt.Errorf("ask apt for its mirrors: %w", err)
	}
	main, security := mirrors(string(out))
	a.main, a.security = cmp.Or(a.main, main), cmp.Or(a.security, security)
	if a.main == "" || a.security == "" {
		return errors.New("apt on this machine has no mirror of Debian and of its security updates: say by -archive URL and -security URL where they are")
	}
	return nil
}

// mirrors finds Debian's archives in lines of a URL and the suite that apt gets from it.
func mirrors(targets string) (main, security string) {
	for line := range strings.Lines(targets) {
		switch site, suite, _ := strings.Cut(strings.TrimSpace(line), " "); {
		case strings.HasSuffix(suite, "-security"):
			security = cmp.Or(security, site)
		default:
			main = cmp.Or(main, site)
		}
	}
	return main, security
}

// sources returns the archive as a list of sources for apt (sources.list(5), deb822).
func (a archive) sources() string {
	more := ""
	if a.past {
		more = "Check-Valid-Until: no\n"
	}
	section := func(uri, suites string) string {
		return fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n%s\n", uri, suites, a.keyring, more)
	}
	return section(a.main, suite+" "+suite+"-updates") + section(a.security, suite+"-security")
}

// download downloads packages with everything that they depend on, for one architecture, and
// returns the paths of the files. Apt chooses the versions and verifies the signatures.
// download needs no root, and runs nothing from the packages.
func (a archive) download(ctx context.Context, arch string, packages []string) ([]string, error) {
	dir, err := filepath.Abs(filepath.Join(a.cache, arch))
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}

	for name, text := range map[string]string{
		"status":         "", // no package counts as installed
		"debian.sources": a.sources(),
		"apt.conf": `Dir::State::lists "` + dir + `/lists";
Dir::State::status "` + dir + `/status";
Dir::Cache "` + dir + `";
Dir::Cache::archives "archives";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::sourcelist "` + dir + `/debian.sources";
APT::Architecture "` + arch + `";
APT::Architectures "` + arch + `";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
Debug::NoLocking "true";
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}

	apt := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		// The machine's apt settings do not apply here. A proxy has to be set by the environment.
		cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(dir, "apt.conf"), "LC_ALL=C")
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("apt-get %s: %w\n%s%s", strings.Join(args, " "), err, out.String(), said.String())
		}
		return out.String(), nil
	}

	if a.update {
		if _, err := apt("update", "-q", "-o", "APT::Update::Error-Mode=any"); err != nil {
			return nil, err
		}
	}
	install := append([]string{"install", "-q", "-y"}, packages...)
	if _, err := apt(append(install, "--download-only")...); err != nil {
		return nil, err
	}

	// With --print-uris, apt lists only files that are not in its cache. So it is called with
	// an empty one.
	list, err := apt(append(install, "--print-uris", "-o", "Dir::Cache::archives="+filepath.Join(dir, "none"))...)
	if err != nil {
		return nil, err
	}
	var files []string
	for line := range strings.Lines(list) {
		if words := strings.Fields(line); len(words) >= 3 && strings.HasPrefix(words[0], "'") {
			files = append(files, filepath.Join(dir, "archives", words[1]))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("apt-get names no packages for %v", packages)
	}
	return files, nil
}

// pkg is a Debian package: the fields of its control file, and its files.
type pkg struct {
	name, version, arch string
	source              string // the source package
	maintainer          string
	homepage            string
	control             []byte
	files               []file
}

// file is one entry of a file system.
type file struct {
	tar.Header // Name has no slash at either end
	data       []byte
}

// readPackage reads a .deb file.
func readPackage(ctx context.Context, deb string) (*pkg, error) {
	p := &pkg{}
	err := untar(ctx, "--ctrl-tarfile", deb, func(f file) {
		if f.Name == "control" {
			p.control = f.data
		}
	})
	if err != nil {
		return nil, err
	}
	fields := controlFields(p.control)
	p.name, p.version, p.arch = fields["Package"], fields["Version"], fields["Architecture"]
	p.maintainer, p.homepage = fields["Maintainer"], fields["Homepage"]
	p.source, _, _ = strings.Cut(fields["Source"], " ")
	if p.source == "" {
		p.source = p.name
	}
	if p.name == "" || p.version == "" {
		return nil, fmt.Errorf("%s: the control file names no package and version", deb)
	}
	err = untar(ctx, "--fsys-tarfile", deb, func(f file) { p.files = append(p.files, f) })
	return p, err
}

// untar reads a part of a .deb file through dpkg-deb, which handles the compression, and calls
// each for every entry.
func untar(ctx context.Context, part, deb string, each func(file)) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", part, deb)
	var said bytes.Buffer
	cmd.Stderr = &said

	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}

	defer cmd.Wait()
	for r := tar.NewReader(out); ; {
		header, err := r.Next()
		if err == io.EOF {
			if err := cmd.Wait(); err != nil {
				return fmt.Errorf("dpkg-deb %s %s: %w: %s", part, deb, err, said.String())
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", deb, err)
		}

		data, err := io.ReadAll(r)
		if err != nil {
			return fmt.Errorf("%s: %w", deb, err)
		}

		header.Name = strings.Trim(path.Clean("/"+header.Name), "/")
		if header.Typeflag == tar.TypeLink {
			header.Linkname = strings.Trim(path.Clean("/"+header.Linkname), "/")
		}
		if header.Name != "" {
			each(file{*header, data})
		}
	}
}

// controlFields returns the fields of the first paragraph of a control file, each with its
// first line only.
func controlFields(text []byte) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) == "" {
			break
		}
		if name, value, found := strings.Cut(line, ":"); found && !strings.HasPrefix(line, " ") {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields
}
