package cli

import (
	"fmt"
	"os"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"holdfast/internal/drill/report"
	"holdfast/internal/history"
)

// drillCheckCommand judges the history of an earlier drill.
func drillCheckCommand(g *globals) *cobra.Command {
	var html string
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Judge the history of a drill again",
		Long: `Judge the history of a drill again, from the file that the drill left. It needs
no stack. Exit code 0: the stack held; 1: it did not, or nobody can say.`,
		Example: `  holdfast drill check history.jsonl --html report.html`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := expandHome(args[0], g.getenv)
			if err != nil {
				return err
			}
			f, err := os.Open(file)
			if err != nil {
				return usagef("read the history: %w", err)
			}
			defer f.Close()
			h, err := history.Decode(f)
			if err != nil {
				return usagef("%s is no history of a drill: %w", args[0], err)
			}
			v := history.Judge(h)
			if err := printDrill(g, cmd.OutOrStdout(), h, v); err != nil {
				return err
			}
			if html != "" {
				page, err := renameio.NewPendingFile(html)
				if err != nil {
					return fmt.Errorf("write the report: %w", err)
				}
				defer page.Cleanup()
				if err := report.HTML(page, h, v); err != nil {
					return err
				}
				if err := page.CloseAtomicallyReplace(); err != nil {
					return fmt.Errorf("write the report: %w", err)
				}
			}
			if v.Result != history.Holds {
				return errReported
			}
			return nil
		},
	}

	pathVar(c.Flags(), &html, g.getenv, "html", "", "write the report, too, to `FILE`")
	return c
}
