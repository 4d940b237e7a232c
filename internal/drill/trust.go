package drill

import (
	"context"
	"crypto/tls"
	"strings"
	"time"

	"holdfast/internal/certificate"
	"holdfast/internal/control"
)

// trustLimit limits how long the supervisor may take to return the certificates that the entry
// shows.
const trustLimit = 2 * time.Second

// trustEntry returns how a drill's clients verify the entry of a stack. The entry has to show one
// of the certificates that the supervisor gave to the balancers. The usual verification cannot
// work: the clients use an address, and the certificate may hold names only, or be self-signed.
// Nil: the entry speaks plain HTTP.
func trustEntry(entry, state string) *tls.Config {
	if !strings.HasPrefix(entry, "https://") {
		return nil
	}
	return certificate.Pinned(func() ([]string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), trustLimit)
		defer cancel()
		st, err := control.NewClient(state).Status(ctx)
		if err != nil {
			return nil, err
		}
		var all []string
		for _, c := range st.Certificates {
			if c.Fingerprint != "" {
				all = append(all, c.Fingerprint)
			}
		}
		return all, nil
	})
}
