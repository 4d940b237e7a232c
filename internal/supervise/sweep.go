package supervise

import (
	"context"
	"path"
	"regexp"

	"holdfast/internal/plan"
)

// checkedConfigs are the files in which HAProxy looks at a balancer's configuration before
// that has it.
const checkedConfigs = "check-*.cfg"

// unfinishedFile is the name of a file that is being written (machine.File).
var unfinishedFile = regexp.MustCompile(`^\..+\d+$`)

// sweep removes what a supervisor that was killed has left half done: files that may have
// secrets in them, and that nobody reads. The caller has the state directory; what others
// write there, such as a backup, is theirs.
func (h home) sweep(ctx context.Context) {
	patterns := []string{checkedConfigs, inHome("*", ".*"), plan.CertificatesDir + "/.*"}
	for _, name := range []string{keptFile, runningFile, changeFile, restoreFile, versionsFile, SelfSignedFile} {
		patterns = append(patterns, "."+name+"*")
	}
	for _, pattern := range patterns {
		names, _ := h.Glob(ctx, pattern) // the patterns are good ones
		for _, name := range names {
			checked, _ := path.Match(checkedConfigs, path.Base(name))
			info, err := h.Stat(ctx, name)
			if err == nil && info.Regular && (checked || unfinishedFile.MatchString(path.Base(name))) {
				_ = h.Remove(ctx, name) // one that stays is removed the next time
			}
		}
	}
}
