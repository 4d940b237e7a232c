package supervise

import (
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"testing"
	"time"

	"holdfast/internal/certificate"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

func TestACertificateGoesFromNoListAtItsFirstAbsence(t *testing.T) {
	t.Parallel()
	s, on := &Supervisor{}, newHostCertificates()
	lists := []string{"certificates/list", "certificates/list-1"} // of two entries with the same directory
	for _, list := range lists {
		on.lists[list] = "one.pem\n"
	}
	for pass, want := range [][]string{{"one.pem"}, nil} {
		for _, list := range lists {
			if got := s.certificateOrder(on, map[string]*hostCertificates{"": on}, false, stack.CertificateEntry{CertificateSet: stack.CertificateSet{Directory: "d"}}, list); !slices.Equal(got, want) {
				t.Errorf("pass %d: %s has %q, want %q", pass+1, list, got, want)
			}
		}
	}
}

func TestAFileThatIsRemovedIsRefusedNoMore(t *testing.T) {
	t.Parallel()
	pair, err := certificate.SelfSigned([]string{"a.example.com"}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, on := &Supervisor{log: slog.New(slog.DiscardHandler)}, newHostCertificates()
	on.has = map[string]certificate.Pair{"one.pem": pair}
	on.refused["one.pem"] = "it is cut off"

	// Another host has the file, and that certificate is shown.
	shows := s.decideCertificate(t.Context(), home{}, on, choice{best: &pair, wrong: fs.ErrNotExist, elsewhere: true}, "one.pem", nil)
	if shows == nil || shows.Digest != pair.Digest || on.refused["one.pem"] != "" {
		t.Errorf("shown is the same: %t; refused is %q", shows != nil && shows.Digest == pair.Digest, on.refused["one.pem"])
	}
}

func TestADirectoryIsKeptForAnEntryThatHasShownOneOfIt(t *testing.T) {
	t.Parallel()
	s := &Supervisor{ctx: t.Context(), hosts: hostsAt(t.TempDir())}
	pair, err := certificate.SelfSigned([]string{"a.example.com"}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	host := s.hosts.here
	if err := host.MakeDir(t.Context(), plan.CertificatesDir); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{path.Join(plan.CertificatesDir, "one.pem"): pair.PEM, plan.CertificateList: []byte("one.pem\n")} {
		if err := host.Write(t.Context(), machine.File{Name: name, Mode: 0o600, Content: content}); err != nil {
			t.Fatal(err)
		}
	}
	for listen, want := range map[string]bool{"": true, "127.0.0.1:2": false} {
		if got := s.keepsCertificate(stack.Reference{Kind: stack.Certificates, Path: "tls", Listen: listen}); got != want {
			t.Errorf("of the entry at %q: %v", listen, got)
		}
	}
}
