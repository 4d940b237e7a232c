package cli

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/token"
)

// tokenBytes is the number of random bytes in a new token. 256 bits cannot be guessed.
const tokenBytes = 32

// tokenEntry is the entry of a token file, which begins with a new token itself.
type tokenEntry struct {
	Token    string   `json:"token,omitempty"` // in clear, only for a new token
	Name     string   `json:"name"`
	Hash     string   `json:"hash"`
	Mode     string   `json:"mode"`
	Prefixes []string `json:"prefixes,omitempty"`
	Commands []string `json:"commands,omitempty"`
}

// tokenCommand creates tokens for the file that 'holdfast web --tokens' reads.
func tokenCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "token",
		Short: "Make tokens for clients of the web nodes",
		Long: `Make tokens for clients of the web nodes. A file has them by their hashes alone:

  tokens:
    - name: shop                        # for logs and metrics
      hash: ...                         # of the token: its SHA-256, in hex
      mode: read-write                  # or read-only
      prefixes: ["shop:", "session:"]   # of the keys and channels; without: all
      commands: ["@read", "set", "-keys"]  # what may be used, and what not;
                                        # without: all that the mode allows

A client sends the token as "Authorization: Bearer TOKEN". A read-only token may
use what Redis calls read-only commands, but not SCAN and KEYS. Commands are
names (get, config|get) and Redis' classes (@string; see ACL CAT); a minus takes
away, and wins. Dangerous commands have to be allowed all the same: by kv.allow
in a stack, else by 'holdfast web --allow'.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(tokenNew(g), tokenHash(g))
	return c
}

// entryFlags adds the flags for what a token may do.
func entryFlags(c *cobra.Command, e *tokenEntry) {
	flags := c.Flags()
	flags.StringVar(&e.Name, "name", "client", "`NAME` of the token, for logs and metrics")
	flags.StringVar(&e.Mode, "mode", token.ReadWrite, "`MODE`: read-write or read-only")
	flags.StringSliceVar(&e.Prefixes, "prefix", nil, "`PREFIX` of the keys and channels that may be used; may be repeated")
	flags.StringSliceVar(&e.Commands, "command", nil, "`COMMAND` or @CLASS that may be used, with a minus before it one that may not; may be repeated")
}

func tokenNew(g *globals) *cobra.Command {
	var e tokenEntry
	c := &cobra.Command{
		Use:   "new",
		Short: "Print a new random token, once, and its entry for the token file",
		Long: `Print a new random token on standard error, and its entry for the token file on
standard output (with --json, both there). The token itself is kept nowhere:
give it to the client now.`,
		Example: `  holdfast token new --name shop --prefix shop:
  holdfast token new --name page --mode read-only`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			raw := make([]byte, tokenBytes)
			if _, err := rand.Read(raw); err != nil {
				return fmt.Errorf("make a random token: %w", err)
			}
			e.Token = base64.RawURLEncoding.EncodeToString(raw)
			e.Hash = token.Hash(e.Token)
			if !g.json {
				// This goes to stderr, because the entry may go straight into a file.
				defer fmt.Fprintf(cmd.ErrOrStderr(), "The token, for the client; it is shown this once:\n%s\n", e.Token)
			}
			return printToken(g, cmd.OutOrStdout(), e)
		},
	}
	entryFlags(c, &e)
	return c
}

func tokenHash(g *globals) *cobra.Command {
	var e tokenEntry
	c := &cobra.Command{
		Use:   "hash",
		Short: "Read a token from standard input and print its entry for the token file",
		Long: `Read a token from standard input, one line, and print its entry for the token
file. On a command line it could be seen by others on the machine.`,
		Example: `  holdfast token hash --name shop < shop.token`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), token.MaxLength+3)) // room for the line end and for one byte too many
			if err != nil {
				return fmt.Errorf("read the token: %w", err)
			}
			clear := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
			if err := token.Check(clear); err != nil {
				return usagef("%w", err)
			}
			e.Hash = token.Hash(clear)
			return printToken(g, cmd.OutOrStdout(), e)
		},
	}
	entryFlags(c, &e)
	return c
}

// printToken prints an entry as the token file has it. Only with --json it also prints a new token
// itself.
func printToken(g *globals, w io.Writer, e tokenEntry) error {
	if _, err := token.New([]token.Entry{{Name: e.Name, Hash: e.Hash, Mode: e.Mode, Prefixes: e.Prefixes, Commands: e.Commands}}); err != nil {
		return usageError{err}
	}
	if g.json {
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		out.SetEscapeHTML(false)
		return out.Encode(e)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "tokens:\n  - name: %s\n    hash: %s\n    mode: %s\n", quoteYAML(e.Name), quoteYAML(e.Hash), e.Mode)
	writeList(&b, "prefixes", e.Prefixes)
	writeList(&b, "commands", e.Commands)
	_, err := io.WriteString(w, b.String())
	return err
}

func writeList(b *strings.Builder, key string, list []string) {
	if len(list) == 0 {
		return
	}
	quoted := make([]string, len(list))
	for i, text := range list {
		quoted[i] = quoteYAML(text)
	}
	fmt.Fprintf(b, "    %s: [%s]\n", key, strings.Join(quoted, ", "))
}

// quoteYAML returns a text as a string of JSON, which YAML reads as the same text (YAML 1.2,
// section 1.2).
func quoteYAML(text string) string {
	out, err := json.Marshal(text)
	if err != nil {
		return `""` // cannot happen with a string
	}
	return string(out)
}
