package drill

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"holdfast/internal/control"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
	"holdfast/internal/supervise"
)

// leftKeys describes the keys of a drill that could not remove them itself. It holds the path of
// the token's file and not the token.
type leftKeys struct {
	State     string `json:"state"` // of the stack
	Entry     string `json:"entry"`
	Prefix    string `json:"prefix"`
	TokenFile string `json:"token_file,omitempty"`
	// At is the URL at which they are removed; empty: the entry.
	At string `json:"at,omitempty"`
	// Trusted: the answer at the entry can be trusted. The stack is the drill's own, or the user
	// named the entry.
	Trusted bool `json:"own,omitempty"`
	// Header is the value of the header that leads to the application; empty: see App.
	Header string `json:"header,omitempty"`
	// App is the application that has the keys; empty: every request reaches it.
	App string `json:"app,omitempty"`
}

// keysLimit limits how long the removal may take. What the drill broke was undone a moment ago, so
// the first attempts may fail.
const keysLimit = 20 * time.Second

// perform removes the keys through the entry, as any client could. While the stack is down that is
// impossible: the keys can be removed when it is up again, or go with its data.
func (k leftKeys) perform() error {
	ctx, cancel := context.WithTimeout(context.Background(), keysLimit)
	defer cancel()
	var failed error
	err := awaitEvery(ctx, askEvery, "", keysLimit, func() bool {
		if failed = k.reachable(ctx); failed == nil {
			failed = k.remove(ctx)
		}
		return failed == nil || errors.As(failed, new(permanentError))
	})
	return errors.Join(err, failed)
}

// permanentError is an error that a second attempt cannot mend.
type permanentError struct{ error }

// reachable returns nil if the stack is known to be behind the entry, else why not. A stranger that
// listens there must neither get the token nor be believed.
func (k leftKeys) reachable(ctx context.Context) error {
	if k.Trusted {
		return nil
	}
	st, err := control.NewClient(k.State).Status(ctx)
	switch {
	case errors.Is(err, control.ErrNoSupervisor) && !supervise.Locked(k.State):
		return permanentError{fmt.Errorf("the stack of %s is down, or has no supervisor; its keys %s* can be removed when it is up", k.State, k.Prefix)}
	case err != nil:
		return err
	case st.Entry != k.Entry:
		return permanentError{fmt.Errorf("the stack's entry is %s now, and was %s", st.Entry, k.Entry)}
	}
	return nil
}

func (k leftKeys) remove(ctx context.Context) error {
	for {
		var page struct {
			Keys   []string `json:"keys"`
			Cursor string   `json:"cursor"`
		}
		found := 0
		for {
			query := url.Values{"limit": {"500"}, "prefix": {k.Prefix}}
			if page.Cursor != "" {
				query.Set("cursor", page.Cursor)
			}
			body, err := k.ask(ctx, http.MethodGet, "/v1/keys?"+query.Encode(), nil)
			if err != nil {
				return err
			}
			page.Keys, page.Cursor = nil, ""
			if err := json.Unmarshal(body, &page); err != nil {
				return fmt.Errorf("read the list of keys: %w", err)
			}
			if found += len(page.Keys); len(page.Keys) > 0 {
				if err := k.delete(ctx, page.Keys); err != nil {
					return err
				}
			}
			if page.Cursor == "" {
				break
			}
		}
		if found == 0 { // a list may miss keys that are added while it is made, so it is read again
			return nil
		}
	}
}

func (k leftKeys) delete(ctx context.Context, names []string) error {
	var commands [][]string
	for _, name := range names {
		if strings.HasPrefix(name, k.Prefix) {
			commands = append(commands, []string{"DEL", name})
		}
	}
	body, err := json.Marshal(commands)
	if err != nil {
		return err
	}
	answer, err := k.ask(ctx, http.MethodPost, "/pipeline", body)
	if err == nil && bytes.Contains(answer, []byte(`"error"`)) {
		err = fmt.Errorf("remove keys: %s", answer)
	}
	return err
}

func (k leftKeys) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, cmp.Or(k.At, k.Entry)+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if k.TokenFile != "" {
		token, err := os.ReadFile(k.TokenFile)
		if err != nil {
			return nil, permanentError{fmt.Errorf("read the token: %w", err)}
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	switch {
	case k.Header != "":
		req.Header.Set(plan.DrillHeaderName, k.Header)
	case k.App != "":
		secrets, err := supervise.Secrets(k.State)
		if err != nil {
			return nil, permanentError{fmt.Errorf("read the secret of drills: %w", err)}
		}
		req.Header.Set(plan.DrillHeaderName, plan.DrillValue(secrets, k.App))
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil, TLSClientConfig: trustEntry(k.Entry, k.State)}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return nil, permanentError{fmt.Errorf("%s %s answers %s: %s", method, path, quote.Text(resp.Status), quote.Text(string(answer)))}
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s %s answers %s: %s", method, path, quote.Text(resp.Status), quote.Text(string(answer)))
	}
	return answer, nil
}
