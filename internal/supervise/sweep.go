package supervise

import (
	"os"
	"path/filepath"
	"regexp"
)

// checkedConfigs are the files in which HAProxy looks at a balancer's configuration before
// that has it.
const checkedConfigs = "check-*.cfg"

// unfinishedFile is the name of a file that writeFile is writing.
var unfinishedFile = regexp.MustCompile(`^\..+\d+$`)

// sweep removes what a supervisor that was killed has left half done: files that may have
// secrets in them, and that nobody reads. The caller has the state directory; what others
// write there, such as a backup, is theirs.
func (d dir) sweep() {
	left, _ := filepath.Glob(d.path(checkedConfigs))
	for _, name := range []string{keptFile, runningFile, changeFile, restoreFile, versionsFile} {
		found, _ := filepath.Glob(d.path("." + name + "*"))
		left = append(left, found...)
	}
	found, _ := filepath.Glob(d.path("nodes", "*", ".*"))
	left = append(left, found...)
	for _, path := range left {
		checked, _ := filepath.Match(checkedConfigs, filepath.Base(path))
		info, err := os.Lstat(path)
		if err == nil && info.Mode().IsRegular() && (checked || unfinishedFile.MatchString(filepath.Base(path))) {
			os.Remove(path) // one that stays is removed the next time
		}
	}
}
