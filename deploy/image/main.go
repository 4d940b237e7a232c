// Command image builds the container images of Holdfast without a container engine:
// holdfast, with the program alone, and holdfast-stack, with the servers that it runs, from
// Debian's packages. 'make image' calls it. docs/containers.md describes how the images are
// built and how to verify them.
//
// debian.go downloads and reads the packages, root.go selects the needed files, image.go makes
// and writes the images, and sbom.go and licences.go describe what is in them.
package main

import (
	"bytes"
	"context"
	"debug/elf"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// user is the default user ID and group ID of a container's processes.
const user = 10001

// home is the directory of a container's state.
const home = "var/lib/holdfast"

// certificates is the file with the certificates that HTTPS clients in the images trust.
const certificates = "etc/ssl/certs/ca-certificates.crt"

// plainImage is what the image holdfast needs from Debian: only the certificates.
var plainImage = needs{packages: []string{"ca-certificates"}, patterns: []string{"usr/share/ca-certificates/mozilla/*.crt"}}

// stackImage returns what the image holdfast-stack needs from Debian: the servers, the programs
// that Holdfast itself calls, and a shell, for keepalived's check of the balancers.
func stackImage(server string) needs {
	return needs{
		packages: []string{"base-files", "ca-certificates", "dash", "haproxy", "keepalived", "nftables", server + "-server", server + "-tools", "libgcc-s1"},
		paths: []string{
			"bin", "sbin", "usr/bin/sh", "usr/bin/dash", "etc/os-release", "etc/debian_version",
			"usr/sbin/haproxy", "usr/sbin/keepalived", "usr/sbin/nft",
			"usr/bin/" + server + "-server", "usr/bin/" + server + "-cli",
			"tmp", "root", "proc", "sys", "dev", "run", "home", "var/tmp",
		},
		patterns: []string{
			"lib*", // links to /usr/lib*
			"usr/share/common-licenses/*",
			"usr/share/ca-certificates/mozilla/*.crt",
			"usr/lib/*/libgcc_s.so.1", // glibc loads it by name when a thread ends
		},
	}
}

type options struct {
	root, programs, out string
	archs               []string
	server              string
	version             string
	at                  time.Time
	debian              archive
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	var o options
	var archs, epoch string
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.StringVar(&o.root, "root", "../..", "`DIR` of the program's source")
	flags.StringVar(&o.programs, "programs", "../../bin/image", "`DIR` with the programs, as ARCH/holdfast")
	flags.StringVar(&o.out, "out", "../../bin/image", "`DIR` to write to")
	flags.StringVar(&archs, "archs", "amd64 arm64", "architectures")
	flags.StringVar(&o.server, "server", "redis", "redis or valkey")
	flags.StringVar(&o.version, "version", "dev", "version of the program")
	flags.StringVar(&epoch, "epoch", os.Getenv("SOURCE_DATE_EPOCH"), "time of what is in the images and not from Debian, in `SECONDS` since 1970")
	flags.StringVar(&o.debian.main, "archive", "", "`URL` of a mirror of Debian's archive (default: the one that apt has on this machine)")
	flags.StringVar(&o.debian.security, "security", "", "`URL` of a mirror of its security updates (likewise)")
	flags.BoolVar(&o.debian.past, "past", false, "the mirrors show the archive as it was at some time: take lists that have expired")
	flags.StringVar(&o.debian.keyring, "keyring", "/usr/share/keyrings/debian-archive-keyring.gpg", "`FILE` with the keys of Debian's archives")
	flags.StringVar(&o.debian.cache, "cache", "", "`DIR` for Debian's packages (default OUT/debian)")
	flags.BoolVar(&o.debian.update, "update", true, "look for newer packages")

	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.server != "redis" && o.server != "valkey" {
		return fmt.Errorf("-server %q: it has to be redis or valkey", o.server)
	}

	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("-epoch (or SOURCE_DATE_EPOCH) %q: it has to be a number of seconds", epoch)
	}
	o.at, o.archs = time.Unix(seconds, 0), strings.Fields(archs)
	if o.debian.cache == "" {
		o.debian.cache = filepath.Join(o.out, "debian")
	}

	if err := o.debian.resolve(ctx); err != nil {
		return err
	}
	images, err := o.make(ctx)
	if err != nil {
		return err
	}
	digests, err := write(o.out, images)
	if err != nil {
		return err
	}
	return report(stdout, o.out, images, digests)
}

// make builds both images for all architectures.
func (o options) make(ctx context.Context) ([]built, error) {
	tags := []string{"latest", tag(o.version)}
	if o.server != "redis" {
		tags = []string{o.server, tag(o.version) + "-" + o.server}
	}

	plain := built{name: "holdfast", tags: []string{"latest", tag(o.version)}, archs: o.archs, image: map[string]v1.Image{}, sbom: map[string][]byte{}}
	stack := built{name: "holdfast-stack", tags: tags, archs: o.archs, image: map[string]v1.Image{}, sbom: map[string][]byte{}}

	own, err := os.ReadFile(filepath.Join(o.root, "LICENSE"))
	if err != nil {
		return nil, err
	}
	example, err := os.ReadFile(filepath.Join(o.root, "deploy/holdfast.yaml"))
	if err != nil {
		return nil, err
	}

	for _, arch := range o.archs {
		program := filepath.Join(o.programs, arch, "holdfast")
		binary, err := os.ReadFile(program)
		if err != nil {
			return nil, err
		}
		if err := checkProgram(binary, arch); err != nil {
			return nil, fmt.Errorf("%s: %w", program, err)
		}

		all, err := modules(program, o.root)
		if err != nil {
			return nil, err
		}
		ours := tree{}
		ours.addFile("usr/bin/holdfast", 0o755, o.at, binary)
		ours.addFile("usr/share/doc/holdfast/copyright", 0o644, o.at, notices(string(own), all))

		for _, image := range []struct {
			into  *built
			needs needs
		}{{&plain, plainImage}, {&stack, stackImage(o.server)}} {
			packages, err := o.packages(ctx, arch, image.needs.packages)
			if err != nil {
				return nil, err
			}
			base, used, err := take(packages, image.needs)
			if err != nil {
				return nil, fmt.Errorf("%s for %s: %w", image.into.name, arch, err)
			}

			bundle(base)
			c := contents{image: image.into.name, version: o.version, arch: arch, at: o.at, modules: all, packages: used, copyrights: copyrights(base, used)}

			var img v1.Image
			top := tree{}
			maps.Copy(top, ours)
			if image.into == &plain {
				maps.Copy(top, base)
				users(top, o.at)
				top.addDir("tmp", 0o1777, o.at)
				img, err = build(arch, plainConfig(o.version), o.at, part{top, "holdfast " + o.version, o.at})
			} else {
				users(base, base.newest())
				// Mode 1777 as for /tmp, so that any user can make a state directory there.
				base.addDir(home, 0o1777, base.newest())
				top.addFile("etc/holdfast/holdfast.yaml", 0o644, o.at, example)
				img, err = build(arch, stackConfig(o.version), o.at,
					part{base, "packages of Debian " + suite, base.newest()}, part{top, "holdfast " + o.version, o.at})
				if err == nil {
					err = writeRoot(filepath.Join(o.out, "root-"+arch+".tar"), base)
				}
			}
			if err != nil {
				return nil, fmt.Errorf("%s for %s: %w", image.into.name, arch, err)
			}

			digest, err := img.Digest()
			if err != nil {
				return nil, err
			}
			c.digest = digest.String()
			image.into.image[arch] = img
			if image.into.sbom[arch], err = sbom(c); err != nil {
				return nil, err
			}
		}
	}
	return []built{plain, stack}, nil
}

// packages downloads and reads packages with everything that they depend on.
func (o options) packages(ctx context.Context, arch string, names []string) ([]*pkg, error) {
	files, err := o.debian.download(ctx, arch, names)
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var all []*pkg
	for _, deb := range files {
		p, err := readPackage(ctx, deb)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// checkProgram returns an error for a program that would not run in an image: it has to be for
// the architecture, and statically linked.
func checkProgram(binary []byte, arch string) error {
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		return err
	}
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
	if f.Machine != machine {
		return fmt.Errorf("it is for %v, not for %s", f.Machine, arch)
	}
	if libraries, _ := f.ImportedLibraries(); len(libraries) > 0 {
		return fmt.Errorf("it is not static: it needs %v", libraries)
	}
	return nil
}

// bundle joins the certificates in one file, as Debian's update-ca-certificates does, and
// removes the single files.
func bundle(t tree) {
	var all bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if strings.HasPrefix(name, "usr/share/ca-certificates/mozilla/") {
			all.Write(bytes.TrimSpace(t[name].data))
			all.WriteByte('\n')
			delete(t, name)
		}
	}
	delete(t, "usr/share/ca-certificates/mozilla")
	delete(t, "usr/share/ca-certificates")
	t.addFile(certificates, 0o644, t.newest(), all.Bytes())
}

// users adds the files from which programs read the names of users.
func users(t tree, at time.Time) {
	t.addFile("etc/passwd", 0o644, at, fmt.Appendf(nil, "root:x:0:0:root:/root:/sbin/nologin\nholdfast:x:%d:%d:Holdfast:/%s:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n", user, user, home))
	t.addFile("etc/group", 0o644, at, fmt.Appendf(nil, "root:x:0:\nholdfast:x:%d:\nnogroup:x:65534:\n", user))
}

// copyrights returns the contents of the copyright files of packages, by package.
func copyrights(t tree, packages []*pkg) map[string]string {
	texts := map[string]string{}
	for _, p := range packages {
		doc := "usr/share/doc/" + p.name
		if link := t[doc]; link.Linkname != "" {
			doc = path.Join("usr/share/doc", link.Linkname)
		}
		texts[p.name] = string(t[doc+"/copyright"].data)
	}
	return texts
}

func labels(title, description, version string) map[string]string {
	const prefix = "org.opencontainers.image."
	return map[string]string{prefix + "title": title, prefix + "description": description, prefix + "version": version, prefix + "licenses": "MIT"}
}

func plainConfig(version string) v1.Config {
	return v1.Config{
		User:       fmt.Sprintf("%d:%d", user, user),
		Entrypoint: []string{"/usr/bin/holdfast"},
		Env:        []string{"PATH=/usr/bin"},
		WorkingDir: "/",
		Labels:     labels("holdfast", "Holdfast, the program alone: a web node, a file server, a client of a stack", version),
	}
}

func stackConfig(version string) v1.Config {
	return v1.Config{
		User:       fmt.Sprintf("%d:%d", user, user),
		Entrypoint: []string{"/usr/bin/holdfast"},
		Cmd:        []string{"up", "--log-format", "json"},
		// Without flags, the commands look for the stack file in the working directory, and for
		// the state in $XDG_STATE_HOME/holdfast.
		Env:          []string{"PATH=/usr/sbin:/usr/bin", "XDG_STATE_HOME=/var/lib"},
		WorkingDir:   "/etc/holdfast",
		ExposedPorts: map[string]struct{}{"6301/tcp": {}},
		Volumes:      map[string]struct{}{"/" + home: {}},
		StopSignal:   "SIGTERM",
		Labels:       labels("holdfast-stack", "Holdfast with HAProxy, Redis and keepalived: a whole stack, or one host of several", version),
	}
}

// writeRoot writes the tree of Debian's files as an archive, for builds with the Dockerfile.
func writeRoot(path string, t tree) error {
	data, err := t.tar()
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// report prints what was built, and what to do with it.
func report(w io.Writer, dir string, images []built, digests map[string]v1.Hash) error {
	dir = filepath.Clean(dir)
	if here, err := os.Getwd(); err == nil {
		if abs, err := filepath.Abs(dir); err == nil {
			if rel, err := filepath.Rel(filepath.Join(here, "../.."), abs); err == nil && filepath.IsLocal(rel) {
				dir = rel
			}
		}
	}

	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "IMAGE\tARCH\tCOMPRESSED\tDIGEST")

	for _, b := range images {
		for _, arch := range b.archs {
			size, err := compressed(b.image[arch])
			if err != nil {
				return err
			}
			digest, err := b.image[arch].Digest()
			if err != nil {
				return err
			}
			fmt.Fprintf(table, "%s:%s\t%s\t%s\t%s\n", b.name, b.tags[len(b.tags)-1], arch, megabytes(size), digest)
		}
		fmt.Fprintf(table, "%s:%s\tall\t\t%s\n", b.name, b.tags[len(b.tags)-1], digests[b.name])
	}

	if err := table.Flush(); err != nil {
		return err
	}

	last := images[len(images)-1]
	_, err := fmt.Fprintf(w, `
In %[1]s: NAME-ARCH.tar for docker, podman and ctr; NAME-ARCH.spdx.json, what is in it (SPDX); oci, all of them as one
OCI layout, to push to a registry: skopeo copy oci:%[1]s/oci:%[2]s:%[3]s docker://REGISTRY/%[2]s:%[3]s --all

  docker load -i %[1]s/%[2]s-%[4]s.tar
  docker run --rm -p 6301:6301 %[2]s:%[3]s
`, dir, last.name, last.tags[0], last.archs[0])
	return err
}
