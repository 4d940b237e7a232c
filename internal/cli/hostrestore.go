package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/backup"
	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/encrypt"
	"holdfast/internal/quote"
	"holdfast/internal/supervise"
)

// restoreHosts restores a backup file of this host into a running stack of several hosts. It checks
// the backup here, and sends its data to the host that shall have it.
func restoreHosts(ctx context.Context, g *globals, name, state string, f *os.File, m backup.Manifest, key encrypt.Key, yes bool, stdout io.Writer) error {
	file, client := f.Name(), g.client(state)
	to, err := client.RestorePlace(ctx)
	if errors.Is(err, control.ErrNoSupervisor) {
		return errors.New("this host is not up: 'holdfast up -d' has it take part, and then restore; or run it at another host. A stack of several hosts is restored while it runs")
	}
	if err != nil {
		return nothingChanged(err)
	}
	if err := confirm(ctx, g, file, m, name, true, true, yes); err != nil {
		return err
	}

	fmt.Fprintln(g.stderr, "Verifying the backup.")
	path, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if m, _, err = backup.Check(f, key); err != nil {
		return nothingChanged(backupError(file, err))
	}

	dump, err := backup.Dump(f, key)
	if err != nil {
		return nothingChanged(backupError(file, err))
	}

	fmt.Fprintf(g.stderr, "Host %s takes it, and has its Redis load it.\n", to.Host)
	staged := supervise.Staged{ID: rand.Text(), File: path, Manifest: m}
	release, err := client.StageRestore(ctx, to, staged, dump)
	if ctx.Err() != nil {
		return errors.New("interrupted: nothing was changed")
	}
	if err != nil {
		return nothingChanged(err)
	}
	defer release()

	fmt.Fprintln(g.stderr, "Restoring it. Redis and the Sentinels stop for it on all hosts; requests wait.")
	done, err := client.Restore(ctx, to.Host, staged.ID)
	if busy := new(control.BusyError); errors.Is(err, control.ErrNoSupervisor) || errors.As(err, &busy) && !busy.Later {
		fmt.Fprintln(g.stderr, "The host that led does not any more, or a host was lost. The next supervisor goes on with the restore, or gives it up.")
		done, err = supervise.Restored{Manifest: m}, followRestore(ctx, client, staged.ID)
	}
	if ctx.Err() != nil && err != nil {
		return errors.New("interrupted: the restore goes on in the background; see 'holdfast status'")
	}
	if err != nil {
		return nodeError(name, err)
	}
	if g.json {
		return json.NewEncoder(stdout).Encode(done)
	}

	_, err = fmt.Fprint(stdout, restoredHostsText(done))
	return err
}

func nothingChanged(err error) error { return fmt.Errorf("nothing was changed: %w", err) }

// followRestore waits until a restore that began under another supervisor is carried out or given
// up.
func followRestore(ctx context.Context, client *control.Client, id string) error {
	const patience = 2 * time.Minute
	for heard := time.Now(); ; {
		st, err := client.Status(ctx)
		switch {
		case err == nil && (st.Change != nil || st.Restoring || st.Phase == supervise.PhaseStarting):
			heard = time.Now()
		case err == nil && st.Restored == id:
			return nil
		case err == nil:
			return errors.New("the restore was given up in the middle, as when a host is lost: the data is what it was before. 'holdfast logs supervisor' at the host that leads says why; restore again when that is put right, and all hosts are up")
		case time.Since(heard) > patience:
			return fmt.Errorf("no host says what became of the restore: 'holdfast status' does, once a majority of the hosts is up (%w)", err)
		}
		if !clock.Sleep(ctx, askHostEvery) {
			return ctx.Err()
		}
	}
}

func restoredHostsText(done supervise.Restored) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s are there", restoredKeys(done))
	if done.Node != "" {
		fmt.Fprintf(&b, "; the master is %s. Requests waited for %.1f s at most", done.Node, float64(done.Stopped)/1000)
	}
	b.WriteString(".\n")
	for _, host := range slices.Sorted(maps.Keys(done.AsideAt)) {
		fmt.Fprintf(&b, "The former data of host %s is there in %s; remove it when it is not needed any more.\n", host, quote.Shell(done.AsideAt[host]))
	}
	return b.String()
}
