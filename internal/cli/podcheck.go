package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/clock"
	"holdfast/internal/quote"
)

// checkPatience is how long it may take until the entry of a starting stack serves.
const checkPatience = 2 * time.Minute

func podCheckCommand(g *globals) *cobra.Command {
	token := ""
	c := &cobra.Command{
		Use:   "check URL",
		Short: "Write a key through the entry of a stack, and read it",
		Long: `Write a key through the entry of a stack, read it and delete it. It waits for at most
two minutes until the entry serves. This is the test of the Helm chart.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), checkPatience)
			defer cancel()
			return checkEntry(ctx, strings.TrimSuffix(args[0], "/"), token, cmd.OutOrStdout())
		},
	}
	c.Flags().StringVar(&token, "token", g.getenv("HOLDFAST_TOKEN"), "the `TOKEN` that the entry wants [HOLDFAST_TOKEN]")
	return c
}

// checkEntry repeats the check until it succeeds, or ctx ends.
func checkEntry(ctx context.Context, url, token string, stdout io.Writer) error {
	key, value := "holdfast-check-"+strings.ToLower(rand.Text()), rand.Text()
	for {
		err := writeAndRead(ctx, url, token, key, value)
		if err == nil {
			_, err = fmt.Fprintf(stdout, "%s: a key was written, read and deleted\n", url)
			return err
		}
		if !clock.Sleep(ctx, time.Second) {
			return fmt.Errorf("the entry does not serve: %w", err)
		}
	}
}

func writeAndRead(ctx context.Context, url, token, key, value string) error {
	for _, step := range []struct{ path, want string }{
		{"/set/" + key + "/" + value + "/EX/600", `{"result":"OK"}`},
		{"/get/" + key, `{"result":"` + value + `"}`},
		{"/del/" + key, `{"result":1}`},
	} {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+step.path, nil)
		if err != nil {
			return err
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
		answer.Body.Close()
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(string(body)); answer.StatusCode != http.StatusOK || got != step.want {
			return fmt.Errorf("%s answers %s: %s", quote.Text(step.path), answer.Status, quote.Text(got))
		}
	}
	return nil
}
