package certificate

import (
	"cmp"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
)

// Source is where one certificate comes from.
type Source struct {
	Name             string // of the file with the certificate
	Certificate, Key []byte // Key is nil where Certificate has the key, too
}

// Read is Read of the source.
func (s Source) Read() (Pair, error) { return Read(s.Certificate, s.Key) }

// endings are those of files that may have a certificate or a key, the likeliest first.
var endings = []string{".pem", ".crt", ".cer"}

const keyEnding = ".key"

// InFolder reports whether the file of that name may belong to a folder of certificates.
func InFolder(name string) bool {
	base := path.Base(name)
	return !strings.HasPrefix(base, ".") && (slices.Contains(endings, path.Ext(base)) || path.Ext(base) == keyEnding)
}

// Certbot's names: in a folder of its own, the other files there are parts of these.
const (
	certbotChain = "fullchain.pem"
	certbotKey   = "privkey.pem"
)

// Folder finds the certificates in a folder and in the folders below it, by the names of the
// files: NAME.pem, NAME.crt with NAME.key, or fullchain.pem with privkey.pem. They are in the
// order of their names. A key without a certificate is an error.
func Folder(files map[string][]byte) ([]Source, error) {
	folders := map[string][]string{}
	for name := range files {
		if InFolder(name) {
			folders[path.Dir(name)] = append(folders[path.Dir(name)], name)
		}
	}
	var all []Source
	var wrong []error
	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		chain, key := path.Join(dir, certbotChain), path.Join(dir, certbotKey)
		if files[chain] != nil && files[key] != nil {
			all = append(all, Source{chain, files[chain], files[key]})
			continue
		}
		names := folders[dir]
		slices.SortFunc(names, func(a, b string) int {
			return cmp.Or(cmp.Compare(slices.Index(endings, path.Ext(a)), slices.Index(endings, path.Ext(b))), cmp.Compare(a, b))
		})
		for _, name := range names {
			stem := strings.TrimSuffix(name, path.Ext(name))
			beside := files[stem+keyEnding]
			switch {
			case path.Ext(name) != keyEnding:
				all = append(all, Source{name, files[name], beside})
			case !slices.ContainsFunc(endings, func(e string) bool { return files[stem+e] != nil }):
				wrong = append(wrong, errors.New(name+" has no certificate beside it: write "+path.Base(stem)+".crt there"))
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Source) int { return cmp.Compare(a.Name, b.Name) })
	return all, errors.Join(wrong...)
}

// Endings are those of all files that may belong to a folder of certificates.
func Endings() []string { return append(slices.Clone(endings), keyEnding) }
