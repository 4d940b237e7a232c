package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/doctor"
	"holdfast/internal/examine"
	"holdfast/internal/host"
)

func doctorCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Look for everything that can be wrong, and say what to do",
		Long: `Look for everything that can be wrong, and say what to do: roles and epochs of Redis
and the Sentinels, replication, settings, files, health at the balancers, versions,
disk, memory, limits, clocks, and what a drill or a change has left. It changes
nothing, and works as well when the supervisor or the stack is down.

Exit code 0: nothing needs anybody (there may be notes); 1: something does, an error
or a warning; 2: the command line is wrong, or the stack file and no stack runs by it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, base, state, err := locateRunning(g)
			if err != nil {
				return err
			}
			self, _ := host.ReadSelf(state) // it fails where the stack has one host only
			report := doctor.Judge(examine.Stack(cmd.Context(), examine.Config{
				Stack: s, BaseDir: base, StateDir: state, Host: self.Name, Mistakes: g.mistakes, KeptPages: g.keptPages, SearchPath: g.getenv("PATH"),
			}))
			if err := cmd.Context().Err(); err != nil {
				return err // after an interruption a missing answer proves nothing
			}
			if err := printReport(g, cmd.OutOrStdout(), report); err != nil {
				return err
			}
			if report.NeedsAttention() {
				return errReported
			}
			return nil
		},
	}
}

// levelColour is the colour of a finding's level on a terminal.
var levelColour = map[doctor.Level]string{doctor.Error: red, doctor.Warning: yellow, doctor.Note: dim}

// printReport prints the findings, for a person or for programs.
func printReport(g *globals, w io.Writer, r doctor.Report) error {
	for i := range r.Findings {
		f := &r.Findings[i]
		f.What, f.Means, f.Do = g.renderMessage(f.What), g.renderMessage(f.Means), g.renderMessage(f.Do)
	}
	if g.json {
		return json.NewEncoder(w).Encode(r)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s\n", r.Stack, r.Summary())
	for _, f := range r.Findings {
		level := fmt.Sprintf("%-7s", f.Level)
		if terminal(w) {
			level = levelColour[f.Level] + level + plain
		}
		fmt.Fprintf(&text, "\n%s  %s\n", level, f.What)
		fmt.Fprintf(&text, "         it means: %s\n         to do:    %s\n", f.Means, f.Do)
	}
	if len(r.Unseen) > 0 {
		fmt.Fprintln(&text, "\nNot looked at:")
		for _, u := range r.Unseen {
			fmt.Fprintf(&text, "  %s: %s\n", u.What, g.renderMessage(u.Why))
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}
