package supervise

import (
	"context"
	"path"
	"regexp"

	"holdfast/internal/plan"
)

// checkedConfigs are the files in which HAProxy checks configurations and certificates before a
// balancer gets them.
const checkedConfigs = "check-*.cfg"

// unfinishedFile is the name of a file that is being written (machine.File).
var unfinishedFile = regexp.MustCompile(`^\..+\d+$`)

// sweep removes unfinished files of a supervisor that was killed. Nothing reads them, and they
// may contain secrets. The caller holds the lock of the state directory. Files that others
// write there, such as a backup, are left to them.
func (h home) sweep(ctx context.Context) {
	patterns := []string{checkedConfigs, inHome("*", ".*"), plan.CertificatesDir + "/.*"}
	for _, name := range []string{stateFile, runningFile, changeFile, restoreFile, versionsFile, SelfSignedFile} {
		patterns = append(patterns, "."+name+"*")
	}
	for _, pattern := range patterns {
		names, _ := h.Glob(ctx, pattern) // the patterns are valid
		for _, name := range names {
			checked, _ := path.Match(checkedConfigs, path.Base(name))
			info, err := h.Stat(ctx, name)
			if err == nil && info.Regular && (checked || unfinishedFile.MatchString(path.Base(name))) {
				_ = h.Remove(ctx, name) // if that fails, the next sweep removes it
			}
		}
	}
}
