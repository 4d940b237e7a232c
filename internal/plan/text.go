package plan

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"

	"holdfast/internal/quote"
)

// Text returns the plan for a person to read: what runs, in the order of the start, and then every
// file. It contains the secrets that were given to Make; see Placeholders.
func (p Plan) Text() string {
	var out strings.Builder
	fmt.Fprintf(&out, "Stack %s, for clients at %s", p.Name, p.EntryURL)
	if p.StatisticsURL != "" {
		fmt.Fprintf(&out, ", statistics at %s", p.StatisticsURL)
	}
	out.WriteString("\n")
	if p.Metrics != "" {
		fmt.Fprintf(&out, "The supervisor's metrics: http://%s/metrics\n", p.Metrics)
	}
	p.overview(&out)
	for _, h := range p.Hosts {
		name := h.Name
		if len(p.Stack.Hosts) > 0 {
			name += ", at " + h.Address + ","
		}
		if len(h.Processes) == 0 {
			fmt.Fprintf(&out, "\nHost %s runs nothing.\n", name)
			continue
		}
		fmt.Fprintf(&out, "\nHost %s runs, stage after stage:\n", name)
		for _, process := range h.Processes {
			process.text(&out)
		}
		fmt.Fprintf(&out, "\nHost %s has these files, in the state directory:\n", h.Name)
		for _, file := range h.Files {
			file.text(&out)
		}
	}
	return out.String()
}

// overview writes which host has which nodes, where the stack file has hosts.
func (p Plan) overview(out *strings.Builder) {
	if len(p.Stack.Hosts) == 0 {
		return
	}
	out.WriteString("\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "HOST\tADDRESS\tNODES\n")
	for _, h := range p.Hosts {
		var names []string
		for _, process := range h.Processes {
			names = append(names, process.Node)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", h.Name, h.Address, cmp.Or(strings.Join(names, " "), "none"))
	}
	w.Flush()
}

func (p Process) text(out *strings.Builder) {
	where := "at " + p.Address
	if p.Kind == Keepalived {
		where = "for " + strings.Join(p.Virtual, " and ") + " on " + cmp.Or(p.Interface, "the interface that has the host's address")
	}
	fmt.Fprintf(out, "\n%d  %s %s\n", p.Stage, p.Node, where)
	line := func(format string, args ...any) {
		out.WriteString("     " + quote.Line(fmt.Sprintf(format, args...)) + "\n")
	}
	line("%s", quote.Command(append([]string{p.Program.String()}, p.Args...)...))
	for _, variable := range p.Env {
		line("%s", variable)
	}
	if p.Admin != "" {
		line("metrics: http://%s/metrics", p.Admin)
	}
	if p.Dir != "" {
		line("in %s", p.Dir)
	}
	within := ""
	if p.Start > 0 {
		within = fmt.Sprintf(" within %s", p.Start)
	}
	line("ready: %s%s; stop: %s, killed after %s", p.Probe, within, p.StopSignal, p.Grace)
}

// String returns what the probe does, for a person.
func (p Probe) String() string {
	if p.Proxy {
		p.Proxy = false
		return p.String() + " after the PROXY protocol"
	}
	switch p.Kind {
	case ProbeHTTP:
		return "GET " + p.Ready + " of host " + p.Host
	case ProbeTCP:
		return "accepts a connection"
	case ProbeHAProxy:
		return "answers at " + p.Socket
	case ProbeRedis:
		return "answers ROLE"
	case ProbeSentinel:
		return "answers PING"
	case ProbeKeepalived:
		return "its process for VRRP runs"
	}
	return string(p.Kind)
}

func (f File) text(out *strings.Builder) {
	once := ""
	if f.Once {
		once = ", written once: the server keeps it"
	}
	fmt.Fprintf(out, "\n--- %s (mode %04o%s)\n", f.Path, f.Mode, once)
	for line := range strings.Lines(f.Content) {
		if line != "\n" {
			out.WriteString("    ")
		}
		out.WriteString(line)
	}
}
