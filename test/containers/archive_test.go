package containers

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// config is the configuration of an image.
type config struct {
	Architecture string
	Config       struct {
		User, WorkingDir, StopSignal string
		Entrypoint, Cmd, Env         []string
		ExposedPorts, Volumes        map[string]struct{}
	}
}

// readImage reads an archive in the format of docker load. It returns the image's configuration,
// the size of its layers as they are transferred, and its ID.
func readImage(archive string) (c config, size int64, id string, err error) {
	files, err := readTar(archive)
	if err != nil {
		return c, 0, "", err
	}
	var manifest []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil || len(manifest) == 0 {
		return c, 0, "", fmt.Errorf("%s: the manifest cannot be read: %v", archive, err)
	}
	for _, layer := range manifest[0].Layers {
		size += int64(len(files[layer]))
	}
	return c, size, manifest[0].Config, json.Unmarshal(files[manifest[0].Config], &c)
}

// readFiles returns the files in all layers of an image, by path.
func readFiles(archive string) (map[string][]byte, error) {
	outer, err := readTar(archive)
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for name, data := range outer {
		if !strings.HasSuffix(name, ".tar.gz") {
			continue
		}
		plain, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if err := eachFile(plain, func(name string, data []byte) { all[name] = data }); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func readTar(path string) (map[string][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files := map[string][]byte{}
	return files, eachFile(f, func(name string, data []byte) { files[name] = data })
}

func eachFile(from io.Reader, each func(name string, data []byte)) error {
	for r := tar.NewReader(from); ; {
		header, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		each(header.Name, data)
	}
}
