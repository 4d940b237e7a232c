package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// module is a Go module in the program.
type module struct {
	path, version string
	licence       string // the SPDX identifier
	text          string // the text of the licence
}

// modules returns the Go modules of a program, including Go's standard library, with their
// licences. It reads the licences from the modules' sources, which go list finds from root.
func modules(program, root string) ([]module, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	goroot, err := goList(root, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	list, err := goList(root, "list", "-m", "-f", "{{.Path}}\t{{.Dir}}", "all")
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{}
	for line := range strings.Lines(list) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		dirs[path] = dir
	}

	text, err := licenceIn(strings.TrimSpace(goroot))
	if err != nil {
		// Go as packaged by a distribution has its licence elsewhere.
		text = "Go's library: https://go.dev/LICENSE (BSD-3-Clause)\n"
	}
	all := []module{{"stdlib", strings.TrimPrefix(info.GoVersion, "go"), "BSD-3-Clause", text}}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		text, err := licenceIn(dirs[dep.Path])
		if err != nil {
			return nil, fmt.Errorf("the licence of module %s: %w", dep.Path, err)
		}
		all = append(all, module{dep.Path, dep.Version, goLicence(text), text})
	}
	return all, nil
}

func goList(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

// licenceIn returns the text of the licence file in a module's directory.
func licenceIn(dir string) (string, error) {
	if dir == "" {
		return "", fmt.Errorf("the module's source is not there: run 'go mod download'")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if name := strings.ToUpper(e.Name()); !e.IsDir() && (strings.HasPrefix(name, "LICEN") || strings.HasPrefix(name, "COPYING")) {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			return string(text), err
		}
	}
	return "", fmt.Errorf("there is no licence in %s", dir)
}

// notices returns the licences of the program and of its modules as one text. Modules with
// the same text share it.
func notices(own string, all []module) []byte {
	var out strings.Builder
	out.WriteString("Holdfast\n\n" + strings.TrimSpace(own) + "\n")
	byText := map[string][]string{}
	var texts []string
	for _, m := range all {
		if byText[m.text] == nil {
			texts = append(texts, m.text)
		}
		byText[m.text] = append(byText[m.text], m.path+" "+m.version)
	}
	for _, text := range texts {
		fmt.Fprintf(&out, "\n%s\n\n%s\n\n%s\n", strings.Repeat("-", 80), strings.Join(byText[text], "\n"), strings.TrimSpace(text))
	}
	return []byte(out.String())
}

// These types are the part of SPDX 2.3 that is used here (https://spdx.github.io/spdx-spec/v2.3/).
type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		DataLicense   string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Packages      []spdxPackage      `json:"packages"`
		Relationships []spdxRelationship `json:"relationships"`
		Licences      []spdxLicence      `json:"hasExtractedLicensingInfos,omitempty"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		ID         string          `json:"SPDXID"`
		Name       string          `json:"name"`
		Version    string          `json:"versionInfo"`
		Supplier   string          `json:"supplier,omitempty"`
		Location   string          `json:"downloadLocation"`
		Homepage   string          `json:"homepage,omitempty"`
		Analyzed   bool            `json:"filesAnalyzed"`
		Source     string          `json:"sourceInfo,omitempty"`
		Concluded  string          `json:"licenseConcluded"`
		Declared   string          `json:"licenseDeclared"`
		Copyright  string          `json:"copyrightText"`
		Purpose    string          `json:"primaryPackagePurpose,omitempty"`
		References []spdxReference `json:"externalRefs,omitempty"`
	}
	spdxReference struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxRelationship struct {
		Element string `json:"spdxElementId"`
		Type    string `json:"relationshipType"`
		Related string `json:"relatedSpdxElement"`
	}
	spdxLicence struct {
		ID   string `json:"licenseId"`
		Text string `json:"extractedText"`
	}
)

// contents describes what is in an image.
type contents struct {
	image, version, arch string
	digest               string // the digest of the image
	at                   time.Time
	modules              []module
	packages             []*pkg
	copyrights           map[string]string // by package
}

// sbom returns the bill of materials of an image, as SPDX in JSON.
func sbom(c contents) ([]byte, error) {
	const document, image, program = "SPDXRef-DOCUMENT", "SPDXRef-image", "SPDXRef-holdfast"
	purl := func(locator string) []spdxReference {
		return []spdxReference{{"PACKAGE-MANAGER", "purl", locator}}
	}

	doc := spdxDocument{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: document,
		Name:      c.image + "-" + c.arch,
		Namespace: "https://spdx.org/spdxdocs/" + c.image + "-" + strings.ReplaceAll(c.digest, ":", "-"),
		Creation:  spdxCreation{c.at.UTC().Format(time.RFC3339), []string{"Tool: holdfast-deploy-image"}},
		Packages: []spdxPackage{
			{ID: image, Name: c.image, Version: c.digest, Location: noAssertion, Concluded: noAssertion, Declared: noAssertion, Copyright: noAssertion, Purpose: "CONTAINER",
				References: purl("pkg:oci/" + c.image + "@" + strings.ReplaceAll(c.digest, ":", "%3A") + "?arch=" + c.arch)},
			{ID: program, Name: "holdfast", Version: c.version, Location: noAssertion, Concluded: "MIT", Declared: "MIT", Copyright: noAssertion, Purpose: "APPLICATION"},
		},
		Relationships: []spdxRelationship{{document, "DESCRIBES", image}, {image, "CONTAINS", program}},
	}

	for _, m := range c.modules {
		id := "SPDXRef-go-" + strings.Trim(notInIdentifier.ReplaceAllString(m.path, "-"), "-")
		doc.Packages = append(doc.Packages, spdxPackage{
			ID: id, Name: m.path, Version: m.version, Location: noAssertion, Concluded: m.licence, Declared: m.licence, Copyright: noAssertion, Purpose: "LIBRARY",
			References: purl("pkg:golang/" + m.path + "@" + m.version),
		})
		doc.Relationships = append(doc.Relationships, spdxRelationship{program, "CONTAINS", id})
	}

	refs := map[string]bool{}
	for _, p := range c.packages {
		id := "SPDXRef-deb-" + strings.Trim(notInIdentifier.ReplaceAllString(p.name, "-"), "-")
		licence, others := debianLicence(c.copyrights[p.name])
		for _, o := range others {
			refs[o] = true
		}
		doc.Packages = append(doc.Packages, spdxPackage{
			ID: id, Name: p.name, Version: p.version, Supplier: supplier(p.maintainer), Location: noAssertion, Homepage: p.homepage,
			Source:    "built from the source package " + p.source + "; its licences are in /usr/share/doc/" + p.name + "/copyright",
			Concluded: noAssertion, Declared: licence, Copyright: noAssertion, Purpose: "LIBRARY",
			References: purl("pkg:deb/debian/" + p.name + "@" + strings.NewReplacer(":", "%3A", "+", "%2B", "~", "~").Replace(p.version) + "?arch=" + p.arch + "&distro=debian-" + suite),
		})
		doc.Relationships = append(doc.Relationships, spdxRelationship{image, "CONTAINS", id})
	}

	for id := range refs {
		doc.Licences = append(doc.Licences, spdxLicence{id, "The text is in the copyright file of the package, /usr/share/doc/PACKAGE/copyright in the image."})
	}
	slices.SortFunc(doc.Licences, func(a, b spdxLicence) int { return strings.Compare(a.ID, b.ID) })
	out, err := json.MarshalIndent(doc, "", "  ")
	return append(out, '\n'), err
}

// supplier returns a maintainer, "Name <address>", in SPDX's form.
func supplier(maintainer string) string {
	name, address, found := strings.Cut(maintainer, " <")
	if !found {
		return noAssertion
	}
	return "Organization: " + name + " (" + strings.TrimSuffix(address, ">") + ")"
}
