package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

var at = time.Unix(1796000000, 0)

func regular(name, data string) file {
	return file{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: at}, []byte(data)}
}

func link(name, to string) file {
	return file{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, ModTime: at}}
}

// packages returns a program with a link to it, its documentation in another package, and a
// package that is not needed.
func packages() []*pkg {
	return []*pkg{
		{name: "server", version: "1.0", control: []byte("Package: server\n"), files: []file{
			regular("usr/bin/server-program", "x"), link("usr/bin/server", "server-program"), regular("usr/share/man/server.1", "x"),
			link("usr/share/doc/server", "base"),
		}},
		{name: "base", version: "2.0", control: []byte("Package: base\n"), files: []file{
			regular("usr/share/doc/base/copyright", "Format: x\nLicense: GPL-2+\n"), regular("usr/share/words/a.txt", "a"), regular("usr/share/words/b.txt", "b"),
		}},
		{name: "unneeded", version: "3.0", files: []file{regular("usr/bin/perl", "x")}},
	}
}

func TestOnlyWhatIsNeededIsTaken(t *testing.T) {
	got, used, err := take(packages(), needs{paths: []string{"usr/bin/server"}, patterns: []string{"usr/share/words/a*"}})
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for name, f := range got {
		if f.Typeflag != tar.TypeDir {
			files = append(files, name)
		}
	}
	slices.Sort(files)
	want := "usr/bin/server usr/bin/server-program usr/share/doc/base/copyright usr/share/doc/server usr/share/words/a.txt var/lib/dpkg/status.d/base var/lib/dpkg/status.d/server"
	if strings.Join(files, " ") != want {
		t.Errorf("taken: %v\nwant   %s", files, want)
	}
	if len(used) != 2 || used[0].name != "base" || used[1].name != "server" {
		t.Errorf("used: %v", used)
	}
	if texts := copyrights(got, used); !strings.Contains(texts["server"], "GPL-2+") {
		t.Errorf("copyrights: %v", texts)
	}
	for name, n := range map[string]needs{
		"a path":    {paths: []string{"usr/bin/none"}},
		"a pattern": {patterns: []string{"usr/share/none/*"}},
		"copyright": {paths: []string{"usr/bin/perl"}},
	} {
		if _, _, err := take(packages(), n); err == nil {
			t.Errorf("%s that is not there was found", name)
		}
	}
}

func TestAProgramBringsItsLibraries(t *testing.T) {
	program, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	libraries, loader, err := linkedWith(program)
	if err != nil || len(libraries) == 0 || !strings.HasPrefix(loader, "/lib") {
		t.Errorf("/bin/sh is linked with %v, by %s, %v", libraries, loader, err)
	}
	lone := []*pkg{{name: "dash", files: []file{{tar.Header{Typeflag: tar.TypeReg, Name: "usr/bin/dash", ModTime: at}, program}}}}
	if _, _, err := take(lone, needs{paths: []string{"usr/bin/dash"}}); err == nil || !strings.Contains(err.Error(), "usr/bin/dash") {
		t.Errorf("a program without its libraries: %v", err)
	}
	if err := checkProgram(program, "amd64"); err == nil {
		t.Error("a program that is linked with libraries, or is for another architecture, would be in the image")
	}
}

func TestTheSameInputsMakeTheSameImage(t *testing.T) {
	digest := func() string {
		tr, _, err := take(packages(), needs{paths: []string{"usr/bin/server"}, patterns: []string{"usr/share/words/*"}})
		if err != nil {
			t.Fatal(err)
		}
		users(tr, at)
		img, err := build("arm64", stackConfig("v1"), at, part{tr, "test", at})
		if err != nil {
			t.Fatal(err)
		}
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	if a, b := digest(), digest(); a != b {
		t.Errorf("%s and %s", a, b)
	}
}

func TestAnImageIsForItsArchitectureAndNotForRoot(t *testing.T) {
	for _, config := range []v1.Config{plainConfig("v1"), stackConfig("v1")} {
		tr := tree{}
		tr.addFile("etc/x", 0o644, at, []byte("x"))
		img, err := build("arm64", config, at, part{tr, "test", at})
		if err != nil {
			t.Fatal(err)
		}
		file, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if file.Architecture != "arm64" || file.OS != "linux" || file.Config.User != "10001:10001" || !file.Created.Time.Equal(at) {
			t.Errorf("the image is for %s, of %v, with the user %s", file.Architecture, file.Created, file.Config.User)
		}
	}
}

func TestATreeHasItsDirectoriesAndNobodysNames(t *testing.T) {
	tr := tree{}
	f := regular("a/b/c", "x")
	f.Uname, f.Uid = "builder", 1000
	tr.add(f)
	data, err := tr.tar()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
		if h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s belongs to %d %q", h.Name, h.Uid, h.Uname)
		}
	}
	if strings.Join(names, " ") != "a/ a/b/ a/b/c" {
		t.Errorf("%v", names)
	}
}

func TestLicences(t *testing.T) {
	for text, want := range map[string]string{
		"MIT License\n\nPermission is hereby granted,\nfree of charge, to any":      "MIT",
		"Apache License\n  Version 2.0, January 2004":                               "Apache-2.0",
		"Redistribution and use in source and binary forms ... Neither the name of": "BSD-3-Clause",
		"Redistribution and use in source and binary forms":                         "BSD-2-Clause",
		"Mozilla Public License Version 2.0":                                        "MPL-2.0",
		"All rights reserved":                                                       noAssertion,
	} {
		if got := goLicence(text); got != want {
			t.Errorf("%.20q: %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"Format: x\nLicense: GPL-2+\n\nFiles: *\nLicense: Expat\n":                 "GPL-2.0-or-later AND MIT",
		"Format: x\nLicense: GPL-1+ or Artistic\n":                                 "(GPL-1.0-or-later OR Artistic-1.0-Perl)",
		"Format: x\nLicense: LGPL-2.1+ and BSD-3-clause\n":                         "BSD-3-Clause AND LGPL-2.1-or-later",
		"Format: x\nLicense: GPL-2+ with OpenSSL exception\n":                      "GPL-2.0-or-later",
		"Format: x\nLicense: public-domain\nLicense: public-domain\n":              "LicenseRef-Debian-public-domain",
		"Format: x\nLicense:\n Licensed under your choice of\n":                    "LicenseRef-Debian-copyright-file",
		"This package was debianized by somebody. It is under the GPL, version 2.": noAssertion,
	} {
		if got, _ := debianLicence(text); got != want {
			t.Errorf("%.30q: %s, want %s", text, got, want)
		}
	}
}

func TestTheBillOfMaterialsIsWhole(t *testing.T) {
	data, err := sbom(contents{
		image: "holdfast-stack", version: "v1", arch: "amd64", digest: "sha256:ab", at: at,
		modules:    []module{{"example.org/a_b", "v1.2.3", "MIT", ""}},
		packages:   []*pkg{{name: "libc6", version: "1:2.0+x", arch: "amd64", source: "glibc", maintainer: "GNU <g@debian.org>"}},
		copyrights: map[string]string{"libc6": "Format: x\nLicense: odd\n"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var doc spdxDocument
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	ids := map[string]spdxPackage{"SPDXRef-DOCUMENT": {}}
	for _, p := range doc.Packages {
		ids[p.ID] = p
	}
	for _, r := range doc.Relationships {
		_, from := ids[r.Element]
		_, to := ids[r.Related]
		if !from || !to {
			t.Errorf("%v is about what is not there", r)
		}
	}
	if len(doc.Packages) != 4 || len(doc.Relationships) != 4 {
		t.Errorf("%d packages, %d relationships", len(doc.Packages), len(doc.Relationships))
	}
	if p := ids["SPDXRef-deb-libc6"]; p.Declared != "LicenseRef-Debian-odd" || p.References[0].Locator != "pkg:deb/debian/libc6@1%3A2.0%2Bx?arch=amd64&distro=debian-trixie" {
		t.Errorf("%+v", p)
	}
	if p := ids["SPDXRef-go-example.org-a-b"]; p.Version != "v1.2.3" || p.Declared != "MIT" {
		t.Errorf("%+v", p)
	}
	if len(doc.Licences) != 1 || doc.Licences[0].ID != "LicenseRef-Debian-odd" {
		t.Errorf("%v", doc.Licences)
	}
}

func TestSources(t *testing.T) {
	now := archive{main: "http://a.test/debian", security: "http://b.test/security", keyring: "/k.gpg"}
	for _, want := range []string{"URIs: http://a.test/debian\nSuites: trixie trixie-updates\n", "URIs: http://b.test/security\nSuites: trixie-security\n", "Signed-By: /k.gpg\n"} {
		if got := now.sources(); !strings.Contains(got, want) || strings.Contains(got, "Valid-Until") {
			t.Errorf("no %q in %s", want, got)
		}
	}
	then := now
	then.past = true
	if got := then.sources(); strings.Count(got, "Check-Valid-Until: no\n") != 2 {
		t.Error(got)
	}
}

func TestMirrors(t *testing.T) {
	main, security := mirrors("http://a.test/debian bookworm\nhttp://a.test/debian bookworm-updates\nhttp://b.test/security bookworm-security\nhttp://c.test/own bookworm\n")
	if main != "http://a.test/debian" || security != "http://b.test/security" {
		t.Errorf("%q, %q", main, security)
	}
}

func TestTag(t *testing.T) {
	for version, want := range map[string]string{"v1.2.3": "v1.2.3", "v1.2.3-4-gabc-dirty": "v1.2.3-4-gabc-dirty", "v1+x": "v1-x", "-x-": "x"} {
		if got := tag(version); got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
	}
}
