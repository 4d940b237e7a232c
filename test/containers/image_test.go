package containers

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// limit is the largest compressed size, in bytes, of the image with only the program.
const limit = 10_000_000

var archs = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

func TestTheImagesAreSmallAndNotForRoot(t *testing.T) {
	dir := imageDir(t)
	for arch, machine := range archs {
		for _, name := range []string{"holdfast", "holdfast-stack"} {
			archive := filepath.Join(dir, name+"-"+arch+".tar")
			c, size, _, err := readImage(archive)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s for %s: %d bytes compressed", name, arch, size)
			if name == "holdfast" && size > limit {
				t.Errorf("%s for %s has %d bytes, and may have %d", name, arch, size, limit)
			}
			if c.Architecture != arch || c.Config.User != "10001:10001" || !slices.Equal(c.Config.Entrypoint, []string{"/usr/bin/holdfast"}) {
				t.Errorf("%s for %s: %+v", name, arch, c)
			}

			files, err := readFiles(archive)
			if err != nil {
				t.Fatal(err)
			}
			programs := []string{"usr/bin/holdfast"}
			if name == "holdfast-stack" {
				programs = append(programs, "usr/sbin/haproxy", "usr/sbin/keepalived", "usr/sbin/nft", "usr/bin/dash", "usr/bin/redis-cli", "usr/bin/redis-check-rdb")
			}
			for _, program := range programs {
				f, err := elf.NewFile(bytes.NewReader(files[program]))
				if err != nil {
					t.Errorf("%s for %s: %s: %v", name, arch, program, err)
				} else if f.Machine != machine {
					t.Errorf("%s for %s: %s is for %v", name, arch, program, f.Machine)
				}
			}
			if certificates := files["etc/ssl/certs/ca-certificates.crt"]; bytes.Count(certificates, []byte("BEGIN CERTIFICATE")) < 100 {
				t.Errorf("%s for %s has %d bytes of certificates", name, arch, len(certificates))
			}
			for _, needless := range []string{"usr/bin/apt", "usr/bin/dpkg", "usr/bin/perl"} {
				if files[needless] != nil {
					t.Errorf("%s for %s has %s", name, arch, needless)
				}
			}
		}
	}
}

func TestTheBillOfMaterialsNamesWhatIsInside(t *testing.T) {
	dir := imageDir(t)
	for arch := range archs {
		for name, want := range map[string][]string{
			"holdfast":       {"holdfast", "stdlib", "github.com/valyala/fasthttp", "github.com/redis/rueidis", "ca-certificates"},
			"holdfast-stack": {"holdfast", "stdlib", "github.com/redis/rueidis", "haproxy", "redis-server", "redis-tools", "keepalived", "nftables", "libc6", "libssl3t64", "dash", "ca-certificates"},
		} {
			data, err := os.ReadFile(filepath.Join(dir, name+"-"+arch+".spdx.json"))
			if err != nil {
				t.Fatal(err)
			}
			var doc struct {
				SPDXVersion string
				Packages    []struct{ Name, VersionInfo, LicenseDeclared string }
			}
			if err := json.Unmarshal(data, &doc); err != nil {
				t.Fatal(err)
			}
			named := map[string]string{}
			for _, p := range doc.Packages {
				named[p.Name] = p.LicenseDeclared
				if p.VersionInfo == "" {
					t.Errorf("%s for %s: %s has no version", name, arch, p.Name)
				}
				if strings.Contains(p.Name, "/") && p.LicenseDeclared == "NOASSERTION" {
					t.Errorf("%s for %s: nobody knows the licence of %s", name, arch, p.Name)
				}
			}
			for _, w := range want {
				if _, found := named[w]; !found {
					t.Errorf("%s for %s: the bill does not name %s", name, arch, w)
				}
			}
		}
	}
}

func TestASecondBuildHasTheSameDigests(t *testing.T) {
	dir := imageDir(t)
	first, err := os.ReadFile(filepath.Join(dir, "oci/index.json"))
	if err != nil {
		t.Fatal(err)
	}

	// In another directory, as a checkout of another user would be.
	copied := filepath.Join(t.TempDir(), "elsewhere")
	if out, err := command(root(t), "git", "clone", "--quiet", "--local", ".", copied); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range changed(t) {
		data, err := os.ReadFile(filepath.Join(root(t), name))
		to := filepath.Join(copied, name)
		if os.IsNotExist(err) {
			os.Remove(to)
			continue
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	version, err := command(root(t), "git", "describe", "--tags", "--always", "--dirty")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := command(copied, "make", "image", "VERSION="+version, "IMAGEFLAGS=-update=false -cache "+filepath.Join(dir, "debian")); err != nil {
		t.Fatalf("make image: %v\n%s", err, out)
	}
	second, err := os.ReadFile(filepath.Join(copied, "bin/image/oci/index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(first) != sha256.Sum256(second) {
		t.Errorf("the first build has the digests\n%s\nand the second\n%s", first, second)
	}
}

// changed returns the files that differ from the last commit.
func changed(t *testing.T) []string {
	t.Helper()
	out, err := command(root(t), "git", "ls-files", "--modified", "--deleted", "--others", "--exclude-standard")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(out)
}

// TestTheDockerfileMakesTheSameImage lets the engine build from the same files.
func TestTheDockerfileMakesTheSameImage(t *testing.T) {
	needEngine(t)
	dir := imageDir(t)
	want, _, _, err := readImage(filepath.Join(dir, "holdfast-stack-amd64.tar"))
	if err != nil {
		t.Fatal(err)
	}

	// The context is exactly what the Dockerfile copies.
	from := t.TempDir()
	for source, to := range map[string]string{
		filepath.Join(dir, "root-amd64.tar"):           "bin/image/root-amd64.tar",
		filepath.Join(dir, "amd64/holdfast"):           "bin/image/amd64/holdfast",
		filepath.Join(root(t), "LICENSE"):              "LICENSE",
		filepath.Join(root(t), "deploy/Dockerfile"):    "Dockerfile",
		filepath.Join(root(t), "deploy/holdfast.yaml"): "deploy/holdfast.yaml",
	} {
		data, err := os.ReadFile(source)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(from, to)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(from, to), data, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tag := fmt.Sprintf("%s:%d", label, os.Getpid())
	docker(t, "build", "--quiet", "--build-arg", "TARGETARCH=amd64", "--tag", tag, from)
	t.Cleanup(func() { command("", "docker", "rmi", tag) })

	var got []config
	if err := json.Unmarshal([]byte(docker(t, "image", "inspect", tag)), &got); err != nil || len(got) != 1 {
		t.Fatalf("docker image inspect: %v", err)
	}
	a, _ := json.Marshal(want.Config)
	b, _ := json.Marshal(got[0].Config)
	if !bytes.Equal(a, b) {
		t.Errorf("make image: %s\nDockerfile: %s", a, b)
	}
	walk(t, start(t, tag, "--read-only"))
}

// TestTheDockerfileLints runs BuildKit's linter, which is in a module of its own here.
func TestTheDockerfileLints(t *testing.T) {
	if out, err := command(root(t), "go", "-C", "test/containers/lint", "run", ".", filepath.Join(root(t), "deploy/Dockerfile")); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
