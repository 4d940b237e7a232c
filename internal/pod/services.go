package pod

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/internal/identity"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/private"
)

// ServicesFile is the file of the state directory with the addresses that the Services had when
// DNS last told them, by their names.
const ServicesFile = "services.json"

const (
	// dnsPatience is how long DNS may leave a pod without any answer before it takes the
	// addresses of before.
	dnsPatience = 5 * time.Second
	// lookupLimit is how long one question may take.
	lookupLimit = 5 * time.Second
	lookupPause = 500 * time.Millisecond
	// lookEvery is how often the names are looked at while the pod waits or runs.
	lookEvery = 30 * time.Second
	// recognizeLimit is how long a pod may take to show whose it is.
	recognizeLimit = 2 * time.Second
)

// Services finds the addresses of the Services of redis nodes and Sentinels. A pod that begins
// while DNS is away takes those of before, which are in its state directory: all that it needs
// besides may be there.
type Services struct {
	StateDir string
	// Names are the names of the Services, by node.
	Names map[string]string
	// Lookup is net.Resolver.LookupHost.
	Lookup func(ctx context.Context, name string) (addresses []string, err error)
	Log    *slog.Logger
	// Waiting is told why the pod waits.
	Waiting func(why string)

	// distrusted are addresses of before that are others' now, by node.
	distrusted map[string]string
	// patience and every are dnsPatience and lookEvery where they are 0.
	patience, every time.Duration
}

// Found are the addresses of Services, by node.
type Found struct {
	Addresses map[string]string
	// Before are the nodes whose addresses are those of before: DNS has told nothing of them.
	Before []string
}

// Find waits until every Service has an address, or ctx ends.
func (s *Services) Find(ctx context.Context) (Found, error) {
	before, err := s.read()
	if err != nil {
		s.Log.Warn("the addresses of before cannot be read: those that DNS tells are taken", "error", err)
	}
	began := time.Now()
	found := Found{Addresses: map[string]string{}}
	var failed []error
	var mu sync.Mutex
	var all sync.WaitGroup
	for node, name := range s.Names {
		was := before[name]
		if was == s.distrusted[node] {
			was = ""
		}
		all.Go(func() {
			address, told, err := s.find(ctx, name, was, began)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				failed = append(failed, err)
			case !told:
				found.Before = append(found.Before, node)
			}
			found.Addresses[node] = address
		})
	}
	all.Wait()
	if len(failed) > 0 {
		return Found{}, failed[0]
	}
	if slices.Sort(found.Before); len(found.Before) > 0 {
		s.Log.Warn("DNS does not answer: the addresses that these Services had before are taken, and DNS is asked on", "of", strings.Join(found.Before, ", "))
	}
	if err := s.write(before, found.Addresses); err != nil {
		s.Log.Error("the addresses of the Services cannot be kept: the next start needs DNS", "error", err)
	}
	return found, nil
}

// find waits until a name has an address. Where DNS says nothing at all, that is the one of
// before; told is false then. An answer that there is no such name is waited out: the Service
// was deleted, and the next one of that name has another address.
func (s *Services) find(ctx context.Context, name, before string, began time.Time) (address string, told bool, err error) {
	for said := false; ; said = true {
		address, err := s.lookUp(ctx, name)
		if err == nil {
			return address, true, nil
		}
		if before != "" && isSilence(err) && time.Since(began) >= cmp.Or(s.patience, dnsPatience) && ctx.Err() == nil {
			return before, false, nil
		}
		if !said && ctx.Err() == nil {
			s.Log.Info("the name of a Service does not resolve yet", "name", name, "error", err)
			s.Waiting("the name " + name + " does not resolve")
		}
		select {
		case <-ctx.Done():
			return "", false, ctx.Err()
		case <-time.After(lookupPause):
		}
	}
}

func (s *Services) lookUp(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	addresses, err := s.Lookup(ctx, name)
	if err != nil {
		return "", err
	}
	if len(addresses) == 0 {
		return "", &net.DNSError{Err: "no address", Name: name, IsNotFound: true}
	}
	return slices.Min(addresses), nil // the same one for all pods
}

// isSilence reports whether DNS has not answered, or not for sure.
func isSilence(err error) bool {
	said := new(net.DNSError)
	return !errors.As(err, &said) || !said.IsNotFound
}

// Before returns the addresses of before, and whether all are known: those that the pod's node
// was started with, where it outlived its supervisor.
func (s *Services) Before() (addresses map[string]string, all bool) {
	before, err := s.read()
	if err != nil {
		return nil, false // as where there are none
	}
	addresses = map[string]string{}
	for node, name := range s.Names {
		if address := before[name]; address != "" {
			addresses[node] = address
		}
	}
	return addresses, len(addresses) == len(s.Names)
}

// Moved is why a pod ends by itself: a Service has another address than the pod's plan, as
// after it was deleted and made again. The pod's next container plans anew.
type Moved struct{ Node, Was, Is string }

func (m *Moved) Error() string {
	return fmt.Sprintf("the Service of %s has the address %s now, and had %s: the container ends, and the next one takes that up", m.Node, m.Is, m.Was)
}

// Watch looks every 30 s whether a Service has another address than the one that was found, and
// returns that; nil: ctx has ended. All pods see the same, and must not end at once: the one
// whose own Service it is goes first, and each other one at its turn, from 1.
func (s *Services) Watch(ctx context.Context, found Found, own string, turn int) *Moved {
	every := cmp.Or(s.every, lookEvery)
	unsure := len(found.Before) > 0
	var seen *Moved
	for wait := every; ; {
		if unsure && seen == nil {
			wait = every / 6
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		moved, all := s.look(ctx, found.Addresses)
		switch {
		case moved != nil && (seen != nil || moved.Node == own):
			return moved
		case moved != nil: // looked at again at its turn
			s.Log.Warn("a Service has another address", "node", moved.Node, "was", moved.Was, "is", moved.Is)
			wait = time.Duration(1+turn) * every
		default:
			wait = every
		}
		if unsure && all && moved == nil {
			s.Log.Info("DNS answers again: the Services have the addresses that they had before")
			unsure = false
		}
		seen = moved
	}
}

// look asks DNS whether a Service has another address; nil: none is known to have. A name that
// does not resolve changes nothing. All reports whether DNS told an address of each.
func (s *Services) look(ctx context.Context, had map[string]string) (moved *Moved, all bool) {
	all = true
	for _, node := range slices.Sorted(maps.Keys(s.Names)) {
		limited, cancel := context.WithTimeout(ctx, lookupLimit)
		addresses, err := s.Lookup(limited, s.Names[node])
		cancel()
		switch {
		case err != nil || len(addresses) == 0:
			all = false
		case moved == nil && !slices.Contains(addresses, had[node]):
			moved = &Moved{node, had[node], slices.Min(addresses)}
		}
	}
	return moved, all
}

// Distrust looks who is at the addresses of before, and reports whether somebody else is at one
// of them: a Service was made anew while DNS was away, and another one has its address now.
// Find does not take that one again. A pod that does not answer proves nothing.
func (s *Services) Distrust(ctx context.Context, found Found, settings func(node string) *tls.Config) bool {
	var mu sync.Mutex
	var all sync.WaitGroup
	any := false
	for _, node := range found.Before {
		all.Go(func() {
			at := found.Addresses[node]
			why := strangerAt(ctx, net.JoinHostPort(at, strconv.Itoa(plan.PodPort)), settings(node))
			if why == nil {
				return
			}
			s.Log.Warn("the address that a Service had before is another's now: DNS has to tell the new one", "of", node, "was", at, "why", why)
			mu.Lock()
			defer mu.Unlock()
			if s.distrusted == nil {
				s.distrusted = map[string]string{}
			}
			s.distrusted[node], any = at, true
		})
	}
	all.Wait()
	return any
}

// strangerAt returns why who answers at an address is not the pod that the settings are for;
// nil: it is, or nobody answers.
func strangerAt(ctx context.Context, address string, settings *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, recognizeLimit)
	defer cancel()
	d := tls.Dialer{Config: settings}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err == nil {
		return conn.Close()
	}
	var notTLS tls.RecordHeaderError
	var unverified *tls.CertificateVerificationError
	switch {
	case errors.As(err, &notTLS):
		return fmt.Errorf("it does not speak TLS: %w", err)
	case errors.As(err, &unverified):
		if invalid := new(x509.CertificateInvalidError); errors.As(err, invalid) && invalid.Reason == x509.Expired {
			return nil // a clock is wrong: whose it is that does not tell
		}
		return err
	case identity.ReasonOf(err) != "":
		return err
	}
	return nil
}

// read returns the addresses of before, by names.
func (s *Services) read() (map[string]string, error) {
	text, err := private.Read(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all map[string]string
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.path(), err)
	}
	for name, address := range all {
		if net.ParseIP(address) == nil {
			return nil, fmt.Errorf("read %s: %s has the address %q", s.path(), name, address)
		}
	}
	return all, nil
}

// write keeps addresses of nodes, unless they are those of before.
func (s *Services) write(before, addresses map[string]string) error {
	now := map[string]string{}
	for node, name := range s.Names {
		now[name] = addresses[node]
	}
	if maps.Equal(before, now) {
		return nil
	}
	text, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return err
	}
	return machine.WriteFile(s.path(), 0o600, append(text, '\n'))
}

func (s *Services) path() string { return filepath.Join(s.StateDir, ServicesFile) }
