package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	nethttp "net/http"
	"path/filepath"
	"time"

	"github.com/google/pprof/profile"
	"github.com/google/renameio/v2"
)

// profiled records a CPU profile of Holdfast's node while load runs, if a profile is wanted and the
// subject is that node. The profile covers whole seconds only.
func (b *bench) profiled(ctx context.Context, s subject, load func() (loaded, error)) (loaded, error) {
	if b.profile == "" || b.slices || s.peer != "holdfast" {
		return load()
	}
	var kept *profile.Profile
	fetched := make(chan error, 1)
	go func() {
		var err error
		kept, err = b.fetchProfile(ctx)
		fetched <- err
	}()
	l, err := load()
	if err = errors.Join(err, <-fetched); err == nil {
		b.profiles = append(b.profiles, kept)
	}
	return l, err
}

// fetchProfile records a profile of the node from now on, for about the length of a measurement.
func (b *bench) fetchProfile(ctx context.Context) (*profile.Profile, error) {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", b.running["holdfast"].topology.admin, int(b.measure/time.Second))
	request, err := nethttp.NewRequestWithContext(ctx, nethttp.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := nethttp.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("fetch a profile: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != nethttp.StatusOK {
		return nil, fmt.Errorf("fetch a profile: %s: %s", url, answer.Status)
	}
	fetched, err := profile.Parse(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("read a profile from %s: %w", url, err)
	}
	return fetched, nil
}

// writeProfile merges all recorded profiles into one for the compiler (https://go.dev/doc/pgo). It
// removes the binary's directory.
func (b *bench) writeProfile() error {
	if b.profile == "" {
		return nil
	}
	if len(b.profiles) == 0 {
		return errors.New("there is no profile: no load of Holdfast's was measured")
	}
	merged, err := profile.Merge(b.profiles)
	if err != nil {
		return fmt.Errorf("merge %d profiles: %w", len(b.profiles), err)
	}
	for _, m := range merged.Mapping {
		m.File = filepath.Base(m.File)
	}
	var content bytes.Buffer
	if err := merged.Write(&content); err != nil {
		return fmt.Errorf("write a profile: %w", err)
	}
	return renameio.WriteFile(b.profile, content.Bytes(), 0o644)
}
