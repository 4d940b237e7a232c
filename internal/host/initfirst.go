package host

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"holdfast/internal/agree"
	"holdfast/internal/identity"
)

// InitFirst makes the host of a state directory the first host of a stack of several. The stack's
// files in the directory become the first documents that the hosts agree on; the stack may be
// running already. InitFirst does nothing if the directory is that of this host already. Planned
// are all hosts that the stack is to have.
func InitFirst(state, stack, name string, address netip.AddrPort, now time.Time, planned ...Planned) error {
	return initFirst(state, Self{Stack: stack, Name: name, Address: address}, nil, now, planned)
}

// initFirst is InitFirst. If pass is not nil, its authority and its invitations are used, instead
// of a new authority and no invitations.
func initFirst(state string, as Self, pass *identity.Pass, now time.Time, planned []Planned) error {
	stack, name, address := as.Stack, as.Name, as.Address
	switch self, err := ReadSelf(state); {
	case err == nil && (self.Name != name || self.Stack != stack):
		return fmt.Errorf("the state directory %s is that of host %s of stack %s", state, self.Name, self.Stack)
	case err == nil:
		return nil
	case !errors.Is(err, ErrNotJoined):
		return err
	}

	if err := makeStateDir(state); err != nil {
		return err
	}
	// An earlier attempt that did not finish is begun anew: no other host has joined yet.
	for _, dir := range []string{identityDir(state), agreeDir(state)} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}

	var a *identity.Authority
	if pass != nil {
		a = pass.Authority
	}
	authority, id, err := firstIdentity(state, a, as, now)
	if err != nil {
		return err
	}

	documents, err := sharedNow(state)
	if err != nil {
		return err
	}
	documents[authorityDocument] = authority
	if pass != nil {
		if documents[invitationsDocument], err = json.Marshal(pass.Invitations); err != nil {
			return err
		}
	}

	first := roster{Planned: planned}.with(Member{Name: name, Address: address, ID: id, State: state, Joined: now.UTC()})
	if documents[rosterDocument], err = json.Marshal(first); err != nil {
		return err
	}

	if err := rememberHosts(state, first); err != nil {
		return err
	}
	if err := agree.Bootstrap(agreeDir(state), name, memberAddress(name), documents); err != nil {
		return err
	}
	return writeSelf(state, Self{Stack: stack, Name: name, Address: address}) // written last: only now the directory is that of a host
}

// firstIdentity makes the first host's certificate, and a new authority if a is nil. It
// returns the authority with its key as PEM, and the host's ID.
func firstIdentity(state string, a *identity.Authority, as Self, now time.Time) (authority []byte, id string, err error) {
	if a == nil {
		if a, err = identity.NewAuthority(as.Stack, now, rand.Reader); err != nil {
			return nil, "", err
		}
	}
	if authority, err = a.PEM(); err != nil {
		return nil, "", err
	}
	if id, err = identity.NewID(rand.Reader); err != nil {
		return nil, "", err
	}

	dir, err := identity.OpenDir(identityDir(state))
	if err != nil {
		return nil, "", err
	}
	key, err := dir.PendingKey()
	if err != nil {
		return nil, "", err
	}
	request, err := identity.NewRequest(key)
	if err != nil {
		return nil, "", err
	}

	der, err := a.Issue(request, identity.Grant{
		Peer:      identity.Peer{Stack: as.Stack, Role: identity.Host, Name: as.Name, ID: id},
		Addresses: []netip.Addr{as.Address.Addr()}, Life: identity.DefaultLife,
	}, now, rand.Reader)
	if err != nil {
		return nil, "", err
	}
	return authority, id, saveCredentials(dir, a, der, key)
}

// Leave removes from a state directory what makes it that of a host of several, and the files
// that all hosts have. The nodes' data stays.
func Leave(state string) error {
	all := []string{selfPath(state), agreeDir(state), identityDir(state), filepath.Join(state, lastRoster)}
	for _, pattern := range sharedFiles {
		found, _ := filepath.Glob(filepath.Join(state, filepath.FromSlash(pattern))) // the only error is a malformed pattern, and these are constants
		all = append(all, found...)
	}
	for _, path := range all {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("leave the stack: %w", err)
		}
	}
	return nil
}
