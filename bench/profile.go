package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/pprof/profile"

	"holdfast/internal/plan"
)

// profiled has Holdfast's node keep a profile of its CPU while load runs, when
// one is wanted, for as long as it is for whole seconds, and the subject is that node.
func (b *bench) profiled(ctx context.Context, s subject, load func() (loaded, error)) (loaded, error) {
	if b.profile == "" || b.slices || s.peer != "holdfast" {
		return load()
	}
	kept := make(chan error, 1)
	go func() { kept <- b.keepProfile(ctx) }()
	l, err := load()
	return l, errors.Join(err, <-kept)
}

// keepProfile fetches a profile of the node's next time, about as long as a
// measurement.
func (b *bench) keepProfile(ctx context.Context) error {
	admin := ""
	for _, p := range b.standing["holdfast"].topology.plan.Hosts[0].Processes {
		if p.Kind == plan.Web {
			admin = p.Admin
		}
	}
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, int(b.measure/time.Second))
	request, err := nethttp.NewRequestWithContext(ctx, nethttp.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := nethttp.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != nethttp.StatusOK {
		err = fmt.Errorf("%s: %s: %.200s", url, answer.Status, content)
	}
	if err != nil {
		return err
	}
	kept, err := profile.ParseData(content)
	if err == nil {
		b.profiles = append(b.profiles, kept)
	}
	return err
}

// writeProfile writes one profile of all that were kept, for the compiler
// (https://go.dev/doc/pgo). Where the binary stood is nobody's business.
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
		return err
	}
	return os.WriteFile(b.profile, content.Bytes(), 0o644)
}
