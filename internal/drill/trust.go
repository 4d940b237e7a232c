package drill

import (
	"context"
	"crypto/tls"
	"strings"
	"time"

	"holdfast/internal/certificate"
	"holdfast/internal/control"
)

// trustLimit is how long the supervisor may take to say which certificates the entry shows.
const trustLimit = 2 * time.Second

// trustEntry is how a drill's clients trust the entry of a stack: it has to show one of the
// certificates that the supervisor has the balancers show. They come by an address, and the
// certificate may be for names alone, or self-signed. Nil: the entry speaks plain HTTP.
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
