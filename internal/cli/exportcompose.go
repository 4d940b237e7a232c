package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/export"
	"holdfast/internal/host"
	"holdfast/internal/identity"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
)

// composeExport is 'holdfast export compose'.
type composeExport struct {
	out, image, user, subnet string
}

// imageUser is the account of the image. It has a number that no machine uses.
const imageUser = 10001

func exportComposeCommand(g *globals) *cobra.Command {
	var o composeExport
	c := &cobra.Command{
		Use:   "compose",
		Short: "Write the stack as containers of one machine, for Docker Compose",
		Long: `Write the stack as containers of one machine, for Docker Compose: a folder with
compose.yaml, the stack file, and the pass of each host (0600). Each host of the stack
file is a container; a stack without hosts gets three.

A pass makes a container its host again, also when its volume is gone: it is a secret.
A second export into the same folder keeps the passes.

The image is 'holdfast-stack', or --image. The containers run as the user who exports
(as root: as ` + strconv.Itoa(imageUser) + `), or as --user: the passes are readable to that user alone.`,
		Example: `  holdfast export compose --out web && cd web && docker compose up -d`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(g, cmd.OutOrStdout()) },
	}
	pathVar(c.Flags(), &o.out, g.getenv, "out", "", "`DIR` to write to")
	c.Flags().StringVar(&o.image, "image", "holdfast-stack", "`IMAGE` of the containers")
	c.Flags().StringVar(&o.user, "user", "", "`UID[:GID]` that the containers run as")
	c.Flags().StringVar(&o.subnet, "subnet", "", "`NETWORK` of the containers (default 10.87.63.0/24, or the /24 of the hosts' addresses)")
	return c
}

var userIDs = regexp.MustCompile(`^[0-9]+(:[0-9]+)?$`)

func (o *composeExport) run(g *globals, stdout io.Writer) error {
	s, c, err := o.compose(g)
	if err != nil {
		return err
	}

	seats := make([]identity.Seat, 0, len(s.Hosts))
	for _, h := range s.Hosts {
		seats = append(seats, identity.Seat{Name: h.Name, Address: netip.AddrPortFrom(netip.MustParseAddr(h.Address), host.Port)})
	}

	passes, kept, err := o.passes(s.Name, seats)
	if err != nil {
		return err
	}

	uid, gid := o.ids()
	dirs := []string{o.out, filepath.Join(o.out, "stack"), o.secrets()}
	for i, dir := range dirs {
		if err := os.MkdirAll(dir, []fs.FileMode{0o755, 0o755, 0o700}[i]); err != nil {
			return fmt.Errorf("make the folder of the export: %w", err)
		}
	}

	for _, p := range passes {
		content, err := p.Encode()
		if err != nil {
			return err
		}
		path := o.pass(p.Token.Host)
		if !kept {
			if err := machine.WriteFile(path, 0o600, content); err != nil {
				return err
			}
		}
		if os.Geteuid() == 0 {
			if err := os.Chown(path, uid, gid); err != nil {
				return fmt.Errorf("give the pass to the user of the containers: %w", err)
			}
		}
	}

	if err := o.writeEnvironments(s, c, passes[0].Authority); err != nil {
		return err
	}

	for name, content := range map[string]string{
		"compose.yaml": c.File(), "stack/holdfast.yaml": string(s.Show()), "secrets/.gitignore": "*\n",
	} {
		if err := machine.WriteFile(filepath.Join(o.out, name), 0o644, []byte(content)); err != nil {
			return err
		}
	}
	return o.printSummary(g, stdout, s, c, kept)
}

// compose returns the stack for containers, and its services.
func (o *composeExport) compose(g *globals) (s stack.Stack, c export.Compose, err error) {
	switch {
	case o.out == "":
		return s, c, usagef("give the folder to write to with --out DIR")
	case !stack.IsImage(o.image):
		return s, c, usagef("--image %s is no name of an image", quote.Text(o.image))
	case o.user != "" && !userIDs.MatchString(o.user):
		return s, c, usagef("--user %s: give numbers, as UID or UID:GID", quote.Text(o.user))
	}

	declared, _, err := loadStack(g)
	if err != nil {
		return s, c, err
	}
	if declared.Entry.Virtual.Enabled() {
		return s, c, usagef("entry.virtual moves an address between machines, and these are containers of one machine, in a network inside it: leave it out of the file for them")
	}
	if declared.Entry.TLS.Redirect != "" {
		return s, c, usagef("entry.tls.redirect: the containers' entries are published at other ports of this machine than they listen on, to which a redirect would not lead: leave it out of the file for them")
	}

	subnet, err := o.network(declared)
	if err != nil {
		return s, c, err
	}

	s, entry := export.OnContainers(declared, func(i int) string {
		at := subnet.Addr().As4()
		at[3] += byte(11 + i)
		return netip.AddrFrom4(at).String()
	})
	if s, err = o.placeImages(s, subnet); err != nil {
		return s, c, err
	}

	// What is written has to be a valid stack file.
	if s, _, err = stack.Parse("stack/holdfast.yaml", s.Show()); err != nil {
		return s, c, usagef("the stack does not fit into containers: %w", err)
	}
	if len(s.Hosts) < 2 {
		return s, c, usagef("the stack file has one host: containers of one machine are two hosts or more, or leave 'hosts' out")
	}

	c = export.Compose{Stack: s.Name, Image: o.image, Subnet: subnet.String()}
	uid, gid := o.ids()
	c.User = fmt.Sprintf("%d:%d", uid, gid)
	if c.Hosts, err = export.ComposeHosts(s, entry); err != nil {
		return s, c, err
	}

	c.Images = export.ComposeImages(s)
	c.Stop, err = stopOnHosts(s)
	return s, c, err
}

// stopOnHosts returns how long a host may take to stop.
func stopOnHosts(s stack.Stack) (time.Duration, error) {
	placed, err := plan.Spread(s, nil)
	if err != nil {
		return 0, err
	}
	facts := plan.Facts{Hosts: plan.HostsOf(s), Placement: placed, Ports: map[string]int{}, Secrets: plan.Placeholders(s)}
	for i, need := range plan.Needs(s) {
		facts.Ports[need.Node] = 20000 + i
	}
	p, err := plan.Make(s, facts, facts.Everywhere(plan.HostFacts{StateDir: "/var/lib/holdfast/" + s.Name, BaseDir: "/etc/holdfast"}))
	if err != nil {
		return 0, err
	}
	return stopTime(p), nil
}

// network returns the network of the containers.
func (o *composeExport) network(s stack.Stack) (netip.Prefix, error) {
	word := o.subnet
	switch {
	case word != "":
	case len(s.Hosts) > 0:
		at, err := netip.ParseAddr(s.Hosts[0].Address)
		if err != nil || !at.Is4() {
			return netip.Prefix{}, usagef("host %s has the address %s: give the network of the containers with --subnet", s.Hosts[0].Name, s.Hosts[0].Address)
		}
		word = netip.PrefixFrom(at, 24).Masked().String()
	default:
		word = "10.87.63.0/24"
	}
	subnet, err := netip.ParsePrefix(word)
	if err != nil || !subnet.Addr().Is4() || subnet != subnet.Masked() || subnet.Bits() > 27 {
		return netip.Prefix{}, usagef("--subnet %s: give an IPv4 network such as 10.87.63.0/24", quote.Text(word))
	}
	for _, h := range s.Hosts {
		if at, err := netip.ParseAddr(h.Address); err != nil || !subnet.Contains(at) {
			return netip.Prefix{}, usagef("host %s has the address %s, which is not in the network %s of the containers: --subnet names another one", h.Name, h.Address, subnet)
		}
	}
	return subnet, nil
}

// placeImages assigns addresses to the containers of the user's own images.
func (o *composeExport) placeImages(s stack.Stack, subnet netip.Prefix) (stack.Stack, error) {
	if len(s.WithoutContainers()) == 0 && !slices.ContainsFunc(s.AppNames(), func(name string) bool { return s.Apps[name].Kind() == stack.Image }) {
		return s, nil
	}
	if s.Redis.Enabled && s.Network != stack.Trusted {
		return s, usagef("apps with an image reach Redis through the containers' network in plain: write network: trusted, which does not leave this machine")
	}
	var before stack.Stack // zero if there is none or it is broken; the containers then get new addresses
	if text, err := os.ReadFile(filepath.Join(o.out, "stack", "holdfast.yaml")); err == nil {
		before, _, _ = stack.Parse("stack/holdfast.yaml", text)
	}
	placed, err := export.PlaceImages(s, before, subnet)
	if err != nil {
		return s, usageError{err}
	}
	return placed, nil
}

// writeEnvironments writes the files from which Compose takes the environment of the user's own
// images. They contain passwords; Compose reads them as the user who calls it.
func (o *composeExport) writeEnvironments(s stack.Stack, c export.Compose, a *identity.Authority) error {
	for _, image := range c.Images {
		password, err := a.Secret(plan.ProgramSecret(image.App))
		if err != nil {
			return err
		}
		path := filepath.Join(o.secrets(), image.Node+".env")
		if err := machine.WriteFile(path, 0o600, []byte(image.Environment(s, password))); err != nil {
			return err
		}
	}
	return nil
}

// ids returns the user and the group of the containers.
func (o *composeExport) ids() (uid, gid int) {
	if o.user == "" {
		if uid = os.Geteuid(); uid == 0 {
			return imageUser, imageUser
		}
		return uid, os.Getegid()
	}
	first, second, both := strings.Cut(o.user, ":")
	uid, _ = strconv.Atoi(first)
	if gid = uid; both {
		gid, _ = strconv.Atoi(second)
	}
	return uid, gid
}

func (o *composeExport) secrets() string { return filepath.Join(o.out, "secrets") }

func (o *composeExport) pass(host string) string { return filepath.Join(o.secrets(), host+".pass") }

// passes returns the passes of an earlier export, or new ones.
func (o *composeExport) passes(name string, seats []identity.Seat) (passes []identity.Pass, kept bool, err error) {
	var missing []string
	for _, seat := range seats {
		p, err := readPass(o.pass(seat.Name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, seat.Name)
			continue
		case err != nil:
			return nil, false, fmt.Errorf("%s: %w", o.pass(seat.Name), err)
		case p.Token.Stack != name || !slices.Equal(p.Seats, seats):
			return nil, false, fmt.Errorf("%s is the pass of host %s of the stack %s with other hosts or addresses than the stack file has now: take them back, or choose another folder", quote.Text(o.pass(seat.Name)), p.Token.Host, p.Token.Stack)
		}
		passes = append(passes, p)
	}
	switch {
	case len(missing) == len(seats):
		passes, err = identity.NewPasses(name, seats, time.Now(), rand.Reader)
		return passes, false, err
	case len(missing) > 0:
		return nil, false, fmt.Errorf("in %s the pass of %s is missing: put it back, or begin anew in another folder", quote.Text(o.secrets()), hostNames(missing))
	}
	return passes, true, nil
}

func readPass(path string) (identity.Pass, error) {
	f, err := os.Open(path)
	if err != nil {
		return identity.Pass{}, err
	}
	defer f.Close()
	return identity.ReadPass(f)
}

// printSummary prints what there is now, and what it does not guarantee.
func (o *composeExport) printSummary(g *globals, stdout io.Writer, s stack.Stack, c export.Compose, kept bool) error {
	passes := "new passes"
	if kept {
		passes = "the passes that were there"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s has compose.yaml, stack/holdfast.yaml and %s of %d hosts. There:\n  docker compose up -d\n\n", quote.Text(o.out), passes, len(s.Hosts))
	for _, h := range c.Hosts {
		fmt.Fprintf(&text, "%s: %s\n", h.Name, strings.Join(h.Nodes, ", "))
		for _, p := range h.Published {
			scheme := "http"
			if p.What == export.PublishedEntry && s.Entry.TLS.Enabled() {
				scheme = "https"
			}
			fmt.Fprintf(&text, "  %s at %s://%s\n", p.What, scheme, p.At)
		}
	}
	text.WriteString("\nThese are containers of one machine: any one may die, and all end with the machine. An entry ends with its container, and the others\nserve on: clients need all of them, or a balancer in front.\n")
	if s.Entry.Auth == "none" {
		text.WriteString("The entry asks nobody for a token: whoever reaches the containers' network, as every program of this machine does, may use it.\n")
	}
	if refers := references(s); refers != "" {
		fmt.Fprintf(&text, "What the stack file names on the disk (%s) has to be in the image, or in stack/.\n", refers)
	}
	_, err := io.WriteString(stdout, text.String())
	return err
}

// references returns the keys that name something on the disk.
func references(s stack.Stack) string {
	var keys []string
	for _, r := range s.References() {
		if !r.InRelease {
			keys = append(keys, r.Key())
		}
	}
	return strings.Join(keys, ", ")
}
