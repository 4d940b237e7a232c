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

	"holdfast/internal/clock"
	"holdfast/internal/identity"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/private"
)

// ServicesFile is the name of the file with the addresses that the Services had when DNS last
// answered, by their names. It is in the state directory.
const ServicesFile = "services.json"

const (
	// dnsPatience is how long DNS may fail to answer before a pod takes the addresses of
	// ServicesFile.
	dnsPatience = 5 * time.Second
	// lookupLimit is how long one lookup may take.
	lookupLimit = 5 * time.Second
	lookupPause = 500 * time.Millisecond
	// lookEvery is how often the names are looked up while the pod waits or runs.
	lookEvery = 30 * time.Second
	// recognizeLimit is how long a pod may take to show its certificate.
	recognizeLimit = 2 * time.Second
)

// Services finds the addresses of the Services of redis nodes and Sentinels. A pod that starts
// while DNS does not answer takes the earlier addresses, which are in its state directory:
// everything else that it needs may be working.
type Services struct {
	StateDir string
	// Names are the names of the Services, by node.
	Names map[string]string
	// Lookup is net.Resolver.LookupHost.
	Lookup func(ctx context.Context, name string) (addresses []string, err error)
	Log    *slog.Logger
	// Waiting is called with why the pod waits.
	Waiting func(why string)

	// distrusted are the earlier addresses that belong to somebody else now, by node.
	distrusted map[string]string
	// patience and every replace dnsPatience and lookEvery unless they are 0.
	patience, every time.Duration
}

// DiscoveredServices is the result of Find: the addresses of the Services, by node.
type DiscoveredServices struct {
	Addresses map[string]string
	// FromCache are the nodes whose address is an earlier one, because DNS did not answer.
	FromCache []string
}

// Find waits until every Service has an address, or ctx ends.
func (s *Services) Find(ctx context.Context) (DiscoveredServices, error) {
	before, err := s.read()
	if err != nil {
		s.Log.Warn("the addresses of before cannot be read: those that DNS tells are taken", "error", err)
	}

	began := time.Now()
	found := DiscoveredServices{Addresses: map[string]string{}}
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
				found.FromCache = append(found.FromCache, node)
			}
			found.Addresses[node] = address
		})
	}

	all.Wait()
	if len(failed) > 0 {
		return DiscoveredServices{}, failed[0]
	}

	if slices.Sort(found.FromCache); len(found.FromCache) > 0 {
		s.Log.Warn("DNS does not answer: the addresses that these Services had before are taken, and DNS is asked on", "of", strings.Join(found.FromCache, ", "))
	}

	if err := s.write(before, found.Addresses); err != nil {
		s.Log.Error("the addresses of the Services cannot be kept: the next start needs DNS", "error", err)
	}
	return found, nil
}

// find waits until a name has an address. If DNS does not answer at all, it returns the earlier
// address, with told false. If DNS answers that there is no such name, it keeps waiting: the
// Service was deleted, and the next one of that name will have another address.
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
		if !clock.Sleep(ctx, lookupPause) {
			return "", false, ctx.Err()
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
	return slices.Min(addresses), nil // so that all pods choose the same one
}

// isSilence reports whether DNS gave no answer, or no definite one.
func isSilence(err error) bool { return !IsNoName(err) }

// Cached returns the earlier addresses by node, and whether all are known. If the pod's node
// has outlived its supervisor, it was started with them.
func (s *Services) Cached() (addresses map[string]string, all bool) {
	before, err := s.read()
	if err != nil {
		return nil, false // the same as no addresses
	}
	addresses = map[string]string{}
	for node, name := range s.Names {
		if address := before[name]; address != "" {
			addresses[node] = address
		}
	}
	return addresses, len(addresses) == len(s.Names)
}

// Moved is why a pod ends by itself: a Service has another address than in the pod's plan,
// because it was deleted and made again. The pod's next container makes a new plan.
type Moved struct{ Node, Was, Is string }

func (m *Moved) Error() string {
	return fmt.Sprintf("the Service of %s has the address %s now, and had %s: the container ends, and the next one takes that up", m.Node, m.Is, m.Was)
}

// Watch checks every 30 s whether a Service has another address than the one that was found,
// and returns that, or nil when ctx ends. All pods notice the same change, but must not end at
// the same time. The pod whose own Service has moved ends first, and every other one at its
// turn, counted from 1.
func (s *Services) Watch(ctx context.Context, found DiscoveredServices, own string, turn int) *Moved {
	every := cmp.Or(s.every, lookEvery)
	unsure := len(found.FromCache) > 0
	var seen *Moved

	for wait := every; ; {
		if unsure && seen == nil {
			wait = every / 6
		}

		if !clock.Sleep(ctx, wait) {
			return nil
		}

		moved, all := s.look(ctx, found.Addresses)
		switch {
		case moved != nil && (seen != nil || moved.Node == own):
			return moved
		case moved != nil: // checked again when it is this pod's turn
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

// look asks DNS whether a Service has another address, and returns the first that has, or nil. A
// name that does not resolve does not count as moved. All reports whether every name resolved.
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

// Distrust connects to the earlier addresses, and reports whether somebody else answers at one
// of them: a Service was made again while DNS did not answer, and another Service has its former
// address now. Find does not return that address again. A pod that does not answer proves
// nothing.
func (s *Services) Distrust(ctx context.Context, found DiscoveredServices, settings func(node string) *tls.Config) bool {
	var mu sync.Mutex
	var all sync.WaitGroup
	any := false
	for _, node := range found.FromCache {
		all.Go(func() {
			at := found.Addresses[node]
			why := verifyPodAt(ctx, net.JoinHostPort(at, strconv.Itoa(plan.PodPort)), settings(node))
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

// verifyPodAt returns an error if what answers at an address is certainly not the pod that the
// settings are for. It returns nil if it is that pod, or if nothing answers.
func verifyPodAt(ctx context.Context, address string, settings *tls.Config) error {
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
			return nil // a clock is wrong, which does not tell whose certificate it is
		}
		return err
	case identity.ReasonOf(err) != "":
		return err
	}
	return nil
}

// read returns the earlier addresses, by the names of the Services.
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

// write writes the addresses of the nodes to ServicesFile, unless they are unchanged.
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
