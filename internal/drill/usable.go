package drill

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"holdfast/internal/quote"
)

// usable says why the entry cannot be drilled; nil: it can. The load speaks to
// Holdfast's own web nodes.
func usable(ctx context.Context, entry, token string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, entry+"/v1/keys?limit=1", nil)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the entry does not answer: %w", err)
	}
	resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fmt.Errorf("the entry %s asks for a token that may read and write the keys holdfast-drill:*; give one with --token-file", entry)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s/v1/keys answers %s: a drill needs an application of kind kv there, and the stack's routes lead elsewhere; drill a stack of its own with --own", entry, quote.Text(resp.Status))
	}
	return nil
}
