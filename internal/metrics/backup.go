package metrics

import (
	"time"

	"holdfast/internal/supervise"
)

// addBackup adds the metrics of the last backup. If nothing is known about it, because a
// file cannot be read, it adds none; their absence shows that.
func addBackup(g *gathering, stateDir string) {
	known, err := supervise.LastBackup(stateDir)
	if err != nil {
		return
	}
	var last supervise.BackupRecord // none
	stored := time.Time{}
	if known.Last != nil {
		last = *known.Last
		stored = last.Begun.Add(time.Duration(last.Seconds * float64(time.Second)))
	}
	g.add(backupLast, seconds(stored))
	g.add(backupTook, last.Seconds)
	g.add(backupBytes, float64(last.Bytes))
	g.add(backupFailed, truth(known.Failure != nil))
	g.add(backupNext, seconds(known.Next))
}
