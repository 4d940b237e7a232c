package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"holdfast/internal/clock"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// Control sequences for terminals (ECMA-48): colours, and redrawing in place.
const (
	green, yellow, red, dim, plain = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[0m"
	lineUp, clearDown              = "\x1b[%dA", "\x1b[J"
)

// terminal reports whether w is a terminal. Only a terminal gets colours and redrawing.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func colour(s supervise.State) string {
	switch s {
	case supervise.Up:
		return green
	case supervise.Failed:
		return red
	case supervise.Down:
		return dim
	}
	return yellow
}

// table writes the nodes of a status in aligned columns. columns is the width of the terminal,
// where lines are coloured and cut; 0: no terminal.
func table(w io.Writer, g *globals, st supervise.Status, columns int) {
	var text strings.Builder
	tw := tabwriter.NewWriter(&text, 0, 4, 2, ' ', 0)
	host := func(string) string { return "" } // with only one host the column is left out
	if slices.ContainsFunc(st.Nodes, func(n supervise.NodeStatus) bool { return n.Host != st.Nodes[0].Host }) {
		host = func(s string) string { return s + "\t" }
	}
	fmt.Fprintln(tw, "NODE\tROLE\tSTATE\t"+host("HOST")+"ADDRESS\tPID\tRESTARTS\tSINCE\t")
	for _, n := range st.Nodes {
		pid := "-"
		if n.PID != 0 {
			pid = fmt.Sprint(n.PID)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s%s\t%s\t%d\t%s\t%s\n", n.Name, role(n), n.State, host(n.Host), cmp.Or(n.Address, n.Holds, "-"), pid, n.Restarts,
			ago(n.Since), g.nodeNote(n)+timeLeft(n))
	}
	tw.Flush()
	for i, line := range strings.SplitAfter(text.String(), "\n") {
		if columns > 0 {
			line = cut(strings.TrimRight(line, " \n"), columns-1) + strings.Repeat("\n", strings.Count(line, "\n"))
		}
		if columns > 0 && i > 0 && i <= len(st.Nodes) {
			state := string(st.Nodes[i-1].State)
			line = strings.Replace(line, " "+state+" ", " "+colour(st.Nodes[i-1].State)+state+plain+" ", 1)
		}
		io.WriteString(w, strings.TrimRight(line, " \n")+strings.Repeat("\n", strings.Count(line, "\n")))
	}
}

// role returns what a node is in its stack: a redis node's role in the replication, an
// application's name, or else the kind.
func role(n supervise.NodeStatus) string {
	return cmp.Or(n.Role, n.App, string(n.Kind))
}

// timeLeft returns how long a starting node may still take to become ready, or "" if it is not
// starting or has no limit.
func timeLeft(n supervise.NodeStatus) string {
	if n.State != supervise.Starting || n.Until.IsZero() {
		return ""
	}
	left := time.Until(n.Until).Round(time.Second)
	if left < 0 {
		return fmt.Sprintf(" (should have been ready %v ago: health.start)", -left)
	}
	return fmt.Sprintf(" (has %v left: health.start)", left)
}

// unserved returns a line for each application that has no server.
func unserved(st supervise.Status) string {
	var text strings.Builder
	for _, u := range st.Unserved {
		fmt.Fprintf(&text, "%s has no server for %s and answers 503: %s\n", u.Balancer, u.App, quote.Text(u.Why))
	}
	return text.String()
}

// ago returns the time since t in a short form, or "-" for the zero time.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// drawEvery is the time between two live pictures. tellEvery is the time between two reports of
// what is waited for, where there is no live picture.
const drawEvery, tellEvery = 50 * time.Millisecond, 5 * time.Second

// showStart shows how the nodes start, until all have. On a terminal it keeps a line for each node.
// Elsewhere it prints a line for each node that is up or has failed, and now and then for the nodes
// that it waits for. It returns the last status.
func showStart(ctx context.Context, g *globals, w io.Writer, status func() (supervise.Status, error)) (supervise.Status, error) {
	began := time.Now()
	live := terminal(w)
	settled := map[string]supervise.State{}
	drawn, told := 0, began
	for {
		st, err := status()
		if err != nil {
			return st, fmt.Errorf("the supervisor is gone: %w", err)
		}
		if live {
			if drawn > 0 {
				fmt.Fprintf(w, lineUp+clearDown, drawn)
			}
			drawn = len(st.Nodes)
		}
		tell := time.Since(told) >= tellEvery
		if tell {
			told = time.Now()
		}
		for _, n := range st.Nodes {
			line := fmt.Sprintf("  %-14s %-9s %-21s %s", n.Name, n.State, n.Address, g.nodeNote(n)+timeLeft(n))
			switch {
			case live:
				line = cut(line, width(w)-1) // a wrapped line would take two lines
				line = strings.Replace(line, string(n.State), colour(n.State)+string(n.State)+plain, 1)
				fmt.Fprintln(w, strings.TrimRight(line, " "))
			case tell && (n.State == supervise.Starting && n.Detail != "" || n.Excluded != ""),
				n.State != settled[n.Name] && (n.State == supervise.Up || n.State == supervise.Failed):
				fmt.Fprintf(w, "%s  (%.2f s)\n", strings.TrimRight(line, " "), time.Since(began).Seconds())
			}
			settled[n.Name] = n.State
		}
		if st.Phase != supervise.PhaseStarting {
			return st, nil
		}
		if !clock.Sleep(ctx, drawEvery) {
			return st, ctx.Err()
		}
	}
}

// width returns the number of columns of the terminal.
func width(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return 80
}

// cut shortens a text to at most that many characters.
func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// showSummary prints what is up, which address to open and what to type.
func showSummary(w io.Writer, g *globals, st supervise.Status, p plan.Plan, took time.Duration) {
	state := "is up"
	if !st.Ready {
		state = "is not ready"
	}

	fmt.Fprintf(w, "\n%s %s after %.1f s: %s\n\n", st.Stack, state, took.Seconds(), nodeCounts(st))
	fmt.Fprintf(w, "  entry       %s\n", st.Entry)
	if st.Statistics != "" {
		fmt.Fprintf(w, "  statistics  %s\n", st.Statistics)
	}

	for _, c := range st.Certificates {
		if c.Refused != "" {
			fmt.Fprintf(w, "\nThe certificate %s is refused: %s\n", quote.Shell(c.File), g.renderMessage(c.Refused))
		}
	}

	if missing := nodesNotUp(g, st); missing != "" {
		fmt.Fprintf(w, "\nNot up:%s\n", missing)
	}
	if lines := unserved(st); lines != "" {
		fmt.Fprintf(w, "\n%s", lines)
	}

	kv := defaultKV(p.Stack)
	if kv != nil && kv.HasTokens() {
		fmt.Fprintf(w, "\nTry, with a token of the stack in TOKEN (%s makes one, and its entry for the stack file):\n", g.command("token new"))
	} else {
		fmt.Fprintln(w, "\nTry:")
	}

	curl, entry := curlFor(g, st)
	for _, line := range tryCommands(g, entry, curl, kv) {
		fmt.Fprintln(w, "  "+line)
	}
}

// tryCommands returns commands to try with a new stack. kv is the application that gets its
// requests; nil: it is of another kind.
func tryCommands(g *globals, entry, curl string, kv *stack.KVApp) []string {
	if kv == nil {
		return []string{curl + quote.Shell(entry+"/"), g.command("status")}
	}
	if kv.HasTokens() {
		curl += `-H "Authorization: Bearer $TOKEN" `
	}
	return []string{
		curl + `"` + entry + `/set?key=imooc&value=imooc.com"`,
		curl + `"` + entry + `/get?key=imooc"`,
		g.command("status"),
	}
}

// curlFor returns a call of curl that trusts the entry, and the URL for it. The URL may have a name
// of the certificate that does not lead to this machine, so curl may need to be told where to
// connect.
func curlFor(g *globals, st supervise.Status) (curl, entry string) {
	u, err := url.Parse(st.Entry)
	if err != nil || u.Scheme != "https" || len(st.Certificates) == 0 {
		return "curl ", st.Entry
	}
	for _, c := range st.Certificates {
		if state, err := stateDir(g, st.Stack); err == nil && c.File == supervise.SelfSignedName {
			return "curl --cacert " + quote.Shell(filepath.Join(state, supervise.SelfSignedFile)) + " ", st.Entry
		}
		for _, name := range c.Names {
			if strings.Contains(name, "*") || net.ParseIP(name) != nil {
				continue
			}
			to := "curl --connect-to " + quote.Shell("::"+u.Host) + " "
			u.Host = net.JoinHostPort(name, u.Port())
			return to, u.String()
		}
	}
	return "curl --insecure ", st.Entry
}

// defaultKV returns the kv that gets the requests without a route of their own, or nil if another
// kind of application does.
func defaultKV(s stack.Stack) *stack.KVApp {
	for _, r := range s.Routes {
		if r.IsDefault() {
			return s.Apps[r.App].KV
		}
	}
	return nil
}

// nodeCounts returns the numbers of nodes: "2 balancers, web × 2, …".
func nodeCounts(st supervise.Status) string {
	count := map[string]int{}
	var order []string
	for _, n := range st.Nodes {
		key := string(n.Kind)
		if n.Kind == plan.Web {
			key = n.App
		}
		if n.Kind == plan.Redis && n.Role != "" {
			key = "redis " + n.Role
		}
		if count[key]++; count[key] == 1 {
			order = append(order, key)
		}
	}
	slices.Reverse(order)
	for i, key := range order {
		order[i] = fmt.Sprintf("%s × %d", key, count[key])
	}
	return strings.Join(order, ", ")
}
