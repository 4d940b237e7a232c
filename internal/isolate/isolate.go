// Package isolate cuts this machine off from others for a time: packets are dropped silently,
// as in a network that fails. The kernel itself ends the cut, through the time-outs of the
// elements of an nftables set (nft(8), "SETS", "timeout"). So the cut ends even if the machine
// cannot be reached any more, or if every process of Holdfast has died. Who may begin a cut, and
// of what, is checked in package control.
package isolate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Longest is how long a cut may last.
const Longest = 30 * time.Second

// Cut describes which packets are dropped, and for how long.
type Cut struct {
	// From and To are addresses of other machines. Packets from the former and packets to the
	// latter are dropped.
	From []netip.Addr `json:"from,omitempty"`
	To   []netip.Addr `json:"to,omitempty"`
	// Spared is a TCP port that stays reachable in both directions, because clients may be on
	// these machines. 0 means no port.
	Spared uint16 `json:"spared,omitempty"`
	// Ports are TCP ports of this machine. Packets to and from them are dropped; with Inside
	// also those within this machine.
	Ports  []uint16 `json:"ports,omitempty"`
	Inside bool     `json:"inside,omitempty"`
	// Virtual are addresses of this machine that others cannot find any more: their ARP
	// requests are not answered.
	Virtual []netip.Addr `json:"virtual,omitempty"`
	// Lasts is how long the cut lasts, at most Longest.
	Lasts time.Duration `json:"lasts"`
}

// Check returns what is wrong with a cut, or nil.
func (c Cut) Check() error {
	switch {
	case c.Lasts < time.Millisecond || c.Lasts > Longest:
		return fmt.Errorf("a cut lasts from a millisecond to %v, and not %v", Longest, c.Lasts)
	case len(c.From)+len(c.To)+len(c.Ports) == 0:
		return errors.New("a cut of nothing")
	}
	for _, a := range slices.Concat(c.From, c.To, c.Virtual) {
		if !a.IsValid() || a.Zone() != "" {
			return fmt.Errorf("%q is no address that a cut can have", a)
		}
	}
	if slices.ContainsFunc(c.Virtual, func(a netip.Addr) bool { return !a.Is4() }) {
		return errors.New("a virtual address has to be one of IPv4")
	}
	return nil
}

// Network cuts this machine's network for one stack. Each stack has nftables tables of its own.
type Network struct{ table string }

// NewNetwork returns the network of a stack. Of is a text that differs between the stacks of
// this machine.
func NewNetwork(of string) Network {
	return Network{fmt.Sprintf("holdfast_cut_%08x", crc32.ChecksumIEEE([]byte(of)))}
}

// remove returns the commands of nft(8) that end a cut. Each table is added first, because nft
// refuses to delete a table that does not exist.
func (n Network) remove() string {
	var text strings.Builder
	for _, family := range []string{"inet", "arp"} {
		fmt.Fprintf(&text, "add table %s %s\ndelete table %[1]s %[2]s\n", family, n.table)
	}
	return text.String()
}

// rules returns the commands of nft(8) that begin a cut and replace an earlier one.
func (n Network) rules(c Cut) string {
	w := writer{table: n.table, lasts: c.Lasts}
	w.text.WriteString(n.remove())

	// Before all standard priorities, of which the first, raw (-300), is before connections
	// are tracked (nft(8), "Standard priority names").
	w.chains("inet", -400)

	if c.Spared > 0 {
		for _, hook := range []string{"input", "output"} {
			w.rule("inet", hook, "tcp dport %d accept", c.Spared)
			w.rule("inet", hook, "tcp sport %d accept", c.Spared)
		}
	}

	w.addresses("input", "from", "saddr", c.From)
	w.addresses("output", "to", "daddr", c.To)

	if len(c.Ports) > 0 {
		var ports []string
		for _, p := range c.Ports {
			ports = append(ports, strconv.Itoa(int(p)))
		}
		w.set("inet", "ports", "inet_service", ports)
		in, out := `iifname != "lo" `, `oifname != "lo" `
		if c.Inside {
			in, out = "", ""
		}
		w.rule("inet", "input", "%stcp dport @ports counter drop comment %q", in, "to the port")
		w.rule("inet", "output", "%stcp sport @ports counter drop comment %q", out, "from the port")
	}

	if len(c.Virtual) > 0 {
		w.chains("arp", 0)
		w.set("arp", "virtual", "ipv4_addr", words(c.Virtual))
		w.rule("arp", "input", "arp daddr ip @virtual drop")
		w.rule("arp", "output", "arp saddr ip @virtual drop")
	}
	return w.text.String()
}

// writer writes the commands of one cut.
type writer struct {
	table string
	lasts time.Duration
	text  strings.Builder
}

func (w *writer) chains(family string, priority int) {
	fmt.Fprintf(&w.text, "add table %s %s\n", family, w.table)
	for _, hook := range []string{"input", "output"} {
		fmt.Fprintf(&w.text, "add chain %s %s %s { type filter hook %[3]s priority %d; }\n", family, w.table, hook, priority)
	}
}

func (w *writer) rule(family, hook, format string, args ...any) {
	fmt.Fprintf(&w.text, "add rule %s %s %s %s\n", family, w.table, hook, fmt.Sprintf(format, args...))
}

// addresses writes the rules that drop packets with one of some addresses, IPv4 and IPv6.
func (w *writer) addresses(hook, what, side string, all []netip.Addr) {
	for _, version := range []struct {
		is       bool
		name, of string
	}{{true, "ip", "ipv4_addr"}, {false, "ip6", "ipv6_addr"}} {
		some := slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return a.Is4() != version.is })
		if len(some) == 0 {
			continue
		}
		name := what + "_" + version.name
		w.set("inet", name, version.of, words(some))
		w.rule("inet", hook, "%s %s @%s counter drop comment %q", version.name, side, name, what+" the others")
	}
}

// set adds a set whose elements the kernel removes when the cut ends.
func (w *writer) set(family, name, of string, elements []string) {
	fmt.Fprintf(&w.text, "add set %s %s %s { type %s; flags timeout; }\n", family, w.table, name, of)
	for _, e := range elements {
		fmt.Fprintf(&w.text, "add element %s %s %s { %s timeout %dms }\n", family, w.table, name, e, w.lasts.Milliseconds())
	}
}

func words(addresses []netip.Addr) (all []string) {
	for _, a := range addresses {
		all = append(all, a.String())
	}
	return all
}

// Ready returns why this cut cannot begin on this machine, or nil if it can. It changes nothing.
func (n Network) Ready(ctx context.Context, c Cut) error {
	if err := c.Check(); err != nil {
		return err
	}
	_, err := nft(ctx, n.rules(c), "--check", "-f", "-")
	return err
}

// Begin begins a cut, and replaces an earlier one.
func (n Network) Begin(ctx context.Context, c Cut) error {
	if err := c.Check(); err != nil {
		return err
	}
	_, err := nft(ctx, n.rules(c), "-f", "-")
	return err
}

// End ends the cut and removes its counters. Without a cut it does nothing.
func (n Network) End(ctx context.Context) error {
	_, err := nft(ctx, n.remove(), "-f", "-")
	return err
}

// Dropped returns how many packets the last cut has dropped, by their direction in words. It
// returns an error after End.
func (n Network) Dropped(ctx context.Context) (map[string]int, error) {
	text, err := nft(ctx, "", "-j", "list", "table", "inet", n.table)
	if err != nil {
		return nil, err
	}
	return ParseCounters(text)
}

// ParseCounters parses the output of "nft -j list table", and returns the packets of each rule
// by its comment.
func ParseCounters(text string) (map[string]int, error) {
	var listed struct {
		Nftables []struct {
			Rule *struct {
				Comment string `json:"comment"`
				Expr    []struct {
					Counter *struct {
						Packets int `json:"packets"`
					} `json:"counter"`
				} `json:"expr"`
			} `json:"rule"`
		} `json:"nftables"`
	}

	if err := json.Unmarshal([]byte(text), &listed); err != nil {
		return nil, fmt.Errorf("read the counters of nft: %w", err)
	}

	counts := map[string]int{}
	for _, entry := range listed.Nftables {
		if entry.Rule == nil {
			continue
		}
		for _, e := range entry.Rule.Expr {
			if e.Counter != nil {
				counts[entry.Rule.Comment] += e.Counter.Packets
			}
		}
	}
	return counts, nil
}

// nft runs nft(8) and returns its output.
func nft(ctx context.Context, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "nft", args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", errors.New("the program nft is missing there, by which the network is cut: install it with 'apt-get install nftables'")
	case errors.As(err, &exit):
		said, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		return "", fmt.Errorf("the network cannot be cut (nft: %s); it takes root, or the capability CAP_NET_ADMIN", said)
	case err != nil:
		return "", fmt.Errorf("run nft: %w", err)
	}
	return string(out), nil
}
