package host

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/identity"
)

// A certificate of the authority does not make its owner a host: every host has the
// authority's key.
func TestAHostThatTheOthersHaveNotAgreedOnIsNotLetIn(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	two := l.join(one, "two", 2)

	dir, err := identity.OpenDir(filepath.Join(t.TempDir(), "identity"))
	l.must(err)
	key, err := dir.PendingKey()
	l.must(err)
	request, err := identity.NewRequest(key)
	l.must(err)

	peer := two.keeper.Credentials().Peer()
	peer.ID, err = identity.NewID(strings.NewReader(strings.Repeat("x", 100)))
	l.must(err)
	peer.Serial = ""
	der, err := two.issue(t.Context(), request, identity.Grant{Peer: peer, Addresses: []netip.Addr{l.address(2).Addr()}, Life: time.Hour})
	l.must(err)

	authority, err := two.authority()
	l.must(err)
	l.must(saveCredentials(dir, authority, der, key))
	forged, err := identity.NewKeeper(dir, nil, time.Now)
	l.must(err)

	taken := &Host{cfg: two.cfg, self: two.self, keeper: forged, trust: two.trust, roster: one.rosterNow()}
	for _, protocol := range []string{machineProtocol, agreementProtocol} {
		conn, err := taken.connect(t.Context(), "one", protocol)
		l.must(err) // the TLS handshake does not check the roster
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = conn.Write([]byte("holdfast-agree/1 probe " + one.member.ID() + "\n"))
		if text, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) || len(text) > 0 {
			t.Errorf("%s: %q %v", protocol, text, err)
		}
		_ = conn.Close()
	}

	client := http.Client{Transport: taken.transport("one")}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://one" + ListPath)
	l.must(err)
	if resp.Body.Close(); resp.StatusCode != http.StatusForbidden {
		t.Errorf("its question: %s", resp.Status)
	}

	// A host cannot ask for the vote of another one.
	from := two.keeper.Credentials().Peer()
	leader, _ := l.leader()
	if _, err := leader.entered(t.Context(), leader.leads(), from, entry{AgreementID: one.member.ID()}); err == nil {
		t.Error("two has the vote of one")
	}
}
