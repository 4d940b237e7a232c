package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/google/go-containerregistry/pkg/name"
)

// part is one layer of an image.
type part struct {
	tree tree
	from string // a description for the image's history
	at   time.Time
}

// build makes an image from layers. The same layers and settings give the same image, byte
// for byte.
func build(arch string, config v1.Config, at time.Time, parts ...part) (v1.Image, error) {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}

	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created, file.Config = "linux", arch, v1.Time{Time: at.UTC()}, config
	if arch == "arm64" {
		file.Variant = "v8"
	}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return nil, err
	}

	for _, p := range parts {
		layer, err := compress(p.tree)
		if err != nil {
			return nil, err
		}
		img, err = mutate.Append(img, mutate.Addendum{
			Layer: layer, MediaType: types.OCILayer,
			History: v1.History{Created: v1.Time{Time: p.at.UTC()}, CreatedBy: p.from},
		})
		if err != nil {
			return nil, err
		}
	}
	return img, nil
}

// compress makes a layer from a tree.
func compress(t tree) (v1.Layer, error) {
	plain, err := t.tar()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(out.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
}

// compressed returns the compressed size of an image's layers, in bytes.
func compressed(img v1.Image) (int64, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return 0, err
	}
	var size int64
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	return size, nil
}

// built is an image for all architectures.
type built struct {
	name  string   // such as holdfast-stack
	tags  []string // such as latest
	archs []string
	image map[string]v1.Image // by architecture
	sbom  map[string][]byte
}

// write writes the images to a directory. For each architecture it writes an archive for
// docker load, and the bill of materials. It also writes all images to one OCI layout, with an
// index for each name, and returns the digests of the indexes by name.
func write(dir string, images []built) (map[string]v1.Hash, error) {
	oci := filepath.Join(dir, "oci")
	if err := os.RemoveAll(oci); err != nil {
		return nil, err
	}
	all, err := layout.Write(oci, empty.Index)
	if err != nil {
		return nil, err
	}

	digests := map[string]v1.Hash{}
	for _, b := range images {
		index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		for _, arch := range b.archs {
			img := b.image[arch]
			base := filepath.Join(dir, b.name+"-"+arch)
			refs := map[name.Tag]v1.Image{}
			for _, tag := range b.tags {
				ref, err := name.NewTag(b.name + ":" + tag)
				if err != nil {
					return nil, err
				}
				refs[ref] = img
			}
			if err := tarball.MultiWriteToFile(base+".tar", refs); err != nil {
				return nil, err
			}
			if err := os.WriteFile(base+".spdx.json", b.sbom[arch], 0o644); err != nil {
				return nil, err
			}

			platform := v1.Platform{OS: "linux", Architecture: arch}
			if arch == "arm64" {
				platform.Variant = "v8"
			}
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &platform}})
		}

		digest, err := index.Digest()
		if err != nil {
			return nil, err
		}
		digests[b.name] = digest
		for _, tag := range b.tags {
			ref := map[string]string{"org.opencontainers.image.ref.name": b.name + ":" + tag}
			if err := all.AppendIndex(index, layout.WithAnnotations(ref)); err != nil {
				return nil, err
			}
		}
	}
	return digests, nil
}

// tag turns a version into a valid tag.
func tag(version string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '-'
	}, version), ".-")
}

// megabytes formats a size in millions of bytes.
func megabytes(n int64) string { return fmt.Sprintf("%.2f MB", float64(n)/1e6) }
