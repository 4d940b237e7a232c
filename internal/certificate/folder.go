package certificate

import (
	"cmp"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
)

// Source is the content of the files of one certificate, or why there is none.
type Source struct {
	Name             string // the name of the file with the certificate
	Certificate, Key []byte // Key is nil if Certificate has the key, too
	Wrong            error  // why there is no certificate
	IsFolder         bool   // Name is a folder that cannot be read
}

// Read calls Read for the source.
func (s Source) Read() (Pair, error) {
	if s.Wrong != nil {
		return Pair{}, s.Wrong
	}
	return Read(s.Certificate, s.Key)
}

// endings are the endings of files that may have a certificate, the likeliest first.
var endings = []string{".pem", ".crt", ".cer"}

const keyEnding = ".key"

// InFolder reports whether a file of this name may have a certificate or a key.
func InFolder(name string) bool {
	base := path.Base(name)
	return !strings.HasPrefix(base, ".") && (slices.Contains(endings, path.Ext(base)) || path.Ext(base) == keyEnding)
}

// The names of Certbot. If a folder has both, the other files in it are parts of these.
const (
	certbotChain = "fullchain.pem"
	certbotKey   = "privkey.pem"
)

// Folder returns the certificates in a folder and in the folders below it, by the names of the
// files: NAME.pem, NAME.crt with NAME.key, or fullchain.pem with privkey.pem. They are sorted by
// name. Wrong has the files that could not be read. A certificate with a problem, such as an
// unreadable file or a key without a certificate, is a Source with Wrong set, and does not
// affect the others.
func Folder(files map[string][]byte, wrong map[string]error) []Source {
	var all []Source
	folders := map[string][]string{}
	there := func(name string) bool { return files[name] != nil || wrong[name] != nil }

	for _, name := range slices.Concat(slices.Collect(maps.Keys(files)), slices.Collect(maps.Keys(wrong))) {
		if InFolder(name) {
			folders[path.Dir(name)] = append(folders[path.Dir(name)], name)
		} else if wrong[name] != nil {
			all = append(all, Source{Name: name, Wrong: wrong[name], IsFolder: true})
		}
	}

	add := func(name, key string) {
		all = append(all, Source{Name: name, Certificate: files[name], Key: files[key], Wrong: cmp.Or(wrong[name], wrong[key])})
	}

	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		chain, key := path.Join(dir, certbotChain), path.Join(dir, certbotKey)
		if there(chain) && there(key) {
			add(chain, key)
			continue
		}

		names := folders[dir]
		slices.SortFunc(names, func(a, b string) int {
			return cmp.Or(cmp.Compare(slices.Index(endings, path.Ext(a)), slices.Index(endings, path.Ext(b))), cmp.Compare(a, b))
		})
		for _, name := range names {
			stem := strings.TrimSuffix(name, path.Ext(name))
			switch {
			case path.Ext(name) != keyEnding:
				add(name, stem+keyEnding)
			case !slices.ContainsFunc(endings, func(e string) bool { return there(stem + e) }):
				all = append(all, Source{Name: name, Wrong: errors.New("it has no certificate beside it: write " + path.Base(stem) + ".crt there")})
			}
		}
	}

	slices.SortStableFunc(all, func(a, b Source) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Endings returns the endings of all files that may have a certificate or a key.
func Endings() []string { return append(slices.Clone(endings), keyEnding) }
