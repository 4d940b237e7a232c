package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/export"
	"holdfast/internal/host"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

func serviceCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "service",
		Short: "Have systemd keep the stack up, from boot on",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(serviceInstallCommand(g), serviceRemoveCommand(g))
	return c
}

// scope is which systemd has the service: the system's or the user's.
type scope struct {
	system bool
	own    bool // --user was given
}

func (o *scope) flags(c *cobra.Command) {
	c.Flags().BoolVar(&o.system, "system", false, "a service of the system (root's default)")
	c.Flags().BoolVar(&o.own, "user", false, "a service of your own systemd (everybody else's default)")
	c.MarkFlagsMutuallyExclusive("system", "user")
}

// choose sets the default.
func (o *scope) choose() { o.system = o.system || !o.own && os.Geteuid() == 0 }

// systemctl runs systemctl for the scope.
func (o scope) systemctl(ctx context.Context, words ...string) error {
	if !o.system {
		words = append([]string{"--user"}, words...)
	}
	out, err := exec.CommandContext(ctx, "systemctl", words...).CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted; 'systemctl %s' may go on", strings.Join(words, " "))
	case errors.Is(err, exec.ErrNotFound):
		return errors.New("systemctl is not there: this machine has no systemd; 'holdfast service install --dry-run' prints the unit")
	case err != nil:
		return fmt.Errorf("systemctl %s: %s", strings.Join(words, " "), quote.Cut(strings.TrimSpace(string(out)), 1000))
	}
	return nil
}

// unitPath returns the path of the stack's unit.
func (o scope) unitPath(g *globals, stack string) (string, error) {
	if o.system {
		return filepath.Join("/etc/systemd/system", export.UnitName(stack)), nil
	}
	config := g.getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(config) {
		home, err := homeDir(g.getenv)
		if err != nil {
			return "", err
		}
		config = filepath.Join(home, ".config")
	}
	return filepath.Join(config, "systemd/user", export.UnitName(stack)), nil
}

// serviceInstall is 'holdfast service install'.
type serviceInstall struct {
	scope
	runAs   string
	dryRun  bool
	noStart bool
}

func serviceInstallCommand(g *globals) *cobra.Command {
	var o serviceInstall
	c := &cobra.Command{
		Use:   "install",
		Short: "Write the stack's unit for systemd, and start it",
		Long: `Write the stack's unit for systemd, have it start at boot, and start it. A stack
that is up goes on: systemd's supervisor adopts its nodes.

'systemctl stop' takes the stack down, 'systemctl reload' is 'holdfast apply --yes'.
A supervisor that crashes or hangs is started again; the nodes run on meanwhile.

On a host of several, 'systemctl stop' ends the part of this host alone, and its nodes
run on. It needs no stack file there.

Run as root it is a service of the system, which runs as --run-as: by default as the
one who called sudo. Else it is a service of your own systemd; without a login it
starts at boot only after 'loginctl enable-linger'.`,
		Example: `  sudo holdfast service install --file /etc/holdfast/shop.yaml --run-as shop
  holdfast service install --dry-run      # print the unit, and do nothing`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.choose()
			return o.run(cmd.Context(), g, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.flags(c)
	c.Flags().StringVar(&o.runAs, "run-as", "", "`USER` that a service of the system runs as")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "print the unit, and do nothing")
	c.Flags().BoolVar(&o.noStart, "no-start", false, "have it start at boot, but not now")
	return c
}

func (o *serviceInstall) run(ctx context.Context, g *globals, stdout, stderr io.Writer) error {
	account, err := o.account(g, stderr)
	if err != nil {
		return err
	}

	s, base, state, err := o.locate(g, account)
	if err != nil {
		return err
	}

	service, err := o.service(g, s, base, state, account)
	if err != nil {
		return err
	}

	text := service.Unit()
	if o.dryRun {
		_, err := io.WriteString(stdout, text)
		return err
	}

	path, err := o.unitPath(g, s.Name)
	if err != nil {
		return err
	}
	if o.system && os.Geteuid() != 0 {
		return usagef("a service of the system needs root: call it with sudo, or give --user")
	}
	if err := o.systemctl(ctx, "daemon-reload"); err != nil { // this fails where there is no systemd
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := renameio.WriteFile(path, []byte(text), 0o644, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("write the unit: %w", err)
	}

	for _, words := range [][]string{{"daemon-reload"}, {"enable", export.UnitName(s.Name)}} {
		if err := o.systemctl(ctx, words...); err != nil {
			return err
		}
	}

	if !o.noStart {
		if err := o.start(ctx, s.Name, state); err != nil {
			return err
		}
	}

	o.printSummary(stdout, s.Name, path, account, service)
	return nil
}

// account returns the user that the service runs as.
func (o *serviceInstall) account(g *globals, stderr io.Writer) (*user.User, error) {
	if !o.system {
		if o.runAs != "" {
			return nil, usagef("--run-as is for a service of the system: give --system, or leave it out")
		}
		return user.Current()
	}
	name := o.runAs
	if name == "" {
		name = g.getenv("SUDO_USER")
	}
	if name == "" {
		account, err := user.Current()
		if err == nil && account.Uid == "0" {
			fmt.Fprintln(stderr, "warning: HAProxy, Redis and the applications will run as root; --run-as USER has them run as somebody else")
		}
		return account, err
	}
	account, err := user.Lookup(name)
	if errors.As(err, new(user.UnknownUserError)) {
		return nil, usagef("there is no user %s on this machine; 'sudo useradd --system --create-home %s' makes one", quote.Text(name), quote.Shell(name))
	}
	return account, err
}

// locate finds the stack like the function locate, but for the account that the service runs as.
func (o *serviceInstall) locate(g *globals, account *user.User) (s stack.Stack, base, state string, err error) {
	if stackFile(g.file) == "" {
		if s, base, state, err = o.locateJoined(g, account); err != nil || state != "" {
			return s, base, state, err
		}
	}
	if s, base, err = loadStack(g); err != nil {
		return s, "", "", err
	}
	if state, err = o.stateOf(g, s.Name, account); err != nil {
		return s, "", "", err
	}
	if len(s.Hosts) > 0 && !isJoined(state) {
		return s, "", "", usagef("this machine is no host of the stack yet: 'holdfast up -d' makes it the first one, or 'holdfast join' one of the others; then call this again")
	}
	return s, base, state, nil
}

// locateJoined finds the stack of a host of several without a stack file. state is empty if there
// is none.
func (o *serviceInstall) locateJoined(g *globals, account *user.User) (s stack.Stack, base, state string, err error) {
	of := *g
	if g.state == "" && o.system && account.Uid != fmt.Sprint(os.Getuid()) {
		of.getenv = func(name string) string { return map[string]string{"HOME": account.HomeDir}[name] }
	}
	state, self, joined, err := joinedState(&of)
	if err != nil || !joined {
		return s, "", "", err
	}
	s, base = lastStack(state, self)
	return s, base, state, nil
}

// stateOf returns the state directory. Without --state it is the one of the account.
func (o *serviceInstall) stateOf(g *globals, name string, account *user.User) (string, error) {
	if g.state != "" || !o.system || account.Uid == fmt.Sprint(os.Getuid()) {
		return stateDir(g, name)
	}
	return stateIn(account.HomeDir, name), nil
}

// service returns what the unit is made of.
func (o *serviceInstall) service(g *globals, s stack.Stack, base, state string, account *user.User) (export.Service, error) {
	self, err := os.Executable()
	if err != nil {
		return export.Service{}, fmt.Errorf("find the path of this program: %w", err)
	}
	p, err := supervise.Preview(s, base, state)
	if err != nil {
		return export.Service{}, err
	}
	service := export.Service{Stack: s.Name, Program: self, Dir: base, State: state, LowPorts: hasLowPort(s), Stop: stopTime(p)}
	if here, err := host.ReadSelf(state); err == nil {
		service.OfSeveral, service.Host = true, here.Name
		o.setHostOptions(g, &service, s, account)
	} else if !errors.Is(err, host.ErrNotJoined) {
		return export.Service{}, err
	}
	if file := stackFile(g.file); file != "" {
		if service.File, err = filepath.Abs(file); err != nil {
			return export.Service{}, err
		}
	}
	if o.system {
		service.User = account.Username
	} else if service.Path = g.getenv("PATH"); service.LowPorts && os.Geteuid() != 0 {
		return export.Service{}, usagef("the stack listens on a port below 1024, which a service of your own may not: 'sudo holdfast service install' makes one of the system")
	}
	return service, nil
}

// setHostOptions sets what differs on a host of several.
func (o *serviceInstall) setHostOptions(g *globals, service *export.Service, s stack.Stack, account *user.User) {
	if stackFile(g.file) == "" {
		service.Dir = filepath.Dir(service.State) // the paths of the running stack may be on another host
		if _, _, known := supervise.LastFile(service.State); !known {
			service.LowPorts = o.system // the stack has not begun, so its ports are not known here
		}
	}
	if virtual := s.Entry.Virtual.Bare(); len(virtual) > 0 && account.Uid != "0" {
		fmt.Fprintf(g.stderr, "warning: only root, or who has CAP_NET_ADMIN and CAP_NET_RAW, may set the stack's virtual address %s, and this service may not: --run-as root, or a drop-in with CapabilityBoundingSet= and AmbientCapabilities= of these two\n", strings.Join(virtual, " "))
	}
}

// hasLowPort reports whether a stack listens on a port that takes a special right.
func hasLowPort(s stack.Stack) bool {
	listens := []string{s.Entry.Listen, s.Metrics.Listen}
	for _, t := range s.TCP {
		listens = append(listens, t.Listen)
	}
	return slices.ContainsFunc(listens, func(address string) bool {
		_, port, err := net.SplitHostPort(address)
		n, _ := strconv.Atoi(port)
		return err == nil && n > 0 && n < 1024
	})
}

// stopTime returns how long a stack may take to stop. The kinds of node stop one after the other.
func stopTime(p plan.Plan) time.Duration {
	longest := map[plan.Kind]time.Duration{}
	for _, h := range p.Hosts {
		for _, n := range h.Processes {
			longest[n.Kind] = max(longest[n.Kind], n.Grace)
		}
	}
	const beyond = 30 * time.Second // for a step of a change that is under way, and for a slow disk
	total := beyond
	for _, grace := range longest {
		total += grace
	}
	return total
}

// start has systemd start the service. A running supervisor is ended as in a crash, and the new one
// adopts the nodes.
func (o *serviceInstall) start(ctx context.Context, name, state string) error {
	unit := export.UnitName(name)
	if isJoined(state) {
		return o.startHost(ctx, unit, state)
	}
	st, err := control.NewClient(state).Status(ctx)
	switch {
	case err != nil: // no supervisor runs
	case o.systemctl(ctx, "is-active", "--quiet", unit) == nil:
		return nil // systemd runs it already
	case st.Change != nil || st.Phase != supervise.PhaseRunning:
		return errors.New("a change of the stack is under way, or it is just starting: the service is installed, and 'holdfast service install' again, when that has ended, has it take over")
	default:
		if err := killSupervisor(ctx, st.Supervisor, state); err != nil {
			return err
		}
	}
	return o.startUnit(ctx, unit)
}

func (o *serviceInstall) startUnit(ctx context.Context, unit string) error {
	if err := o.systemctl(ctx, "start", unit); err != nil {
		return fmt.Errorf("%w\n'%s' and 'holdfast logs supervisor' say more", err, o.call("status", unit))
	}
	return nil
}

// startHost has systemd start the process of a host of several. A process that runs already ends
// first; the nodes go on.
func (o *serviceInstall) startHost(ctx context.Context, unit, state string) error {
	v, err := control.NewClient(state).Hosts(ctx)
	switch {
	case err != nil: // no process runs
	case o.systemctl(ctx, "is-active", "--quiet", unit) == nil:
		return nil // systemd runs it already
	default:
		if err := endHost(ctx, v.PID, state); err != nil {
			return err
		}
	}
	return o.startUnit(ctx, unit)
}

// endHost ends the process of a host, and waits until it is gone.
func endHost(ctx context.Context, pid int, state string) error {
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the process %d of this host: %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if !clock.Poll(ctx, drawEvery, func() bool { return !host.Claimed(state) }) {
		return fmt.Errorf("the process %d of this host does not end", pid)
	}
	return nil
}

// call returns a systemctl command for the user to type.
func (o scope) call(words ...string) string {
	own := ""
	if !o.system {
		own = "--user "
	}
	return "systemctl " + own + strings.Join(words, " ")
}

func (o *serviceInstall) printSummary(out io.Writer, name, path string, account *user.User, service export.Service) {
	unit := export.UnitName(name)
	stops := ""
	if service.OfSeveral {
		stops = "      (the part of this host; its nodes run on)"
	}
	state := "runs, and starts at boot"
	if o.noStart {
		state = "starts at boot"
	}
	fmt.Fprintf(out, "%s is a service now: it %s.\n\n", name, state)
	fmt.Fprintf(out, "unit     %s\n", path)
	fmt.Fprintf(out, "look     %s\n", o.call("status", unit))
	if service.Reloads() {
		fmt.Fprintf(out, "change   %s      (what the stack file says now)\n", o.call("reload", unit))
	}
	fmt.Fprintf(out, "stop     %s%s\n", o.call("stop", unit), stops)
	if _, err := os.Stat(filepath.Join("/var/lib/systemd/linger", account.Username)); !o.system && err != nil {
		fmt.Fprintf(out, "\nIt starts when you log in. To have it start at boot: sudo loginctl enable-linger %s\n", account.Username)
	}
}

func serviceRemoveCommand(g *globals) *cobra.Command {
	var o scope
	c := &cobra.Command{
		Use:   "remove",
		Short: "Take the stack down, and remove its unit; its data stays",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.choose()
			s, _, state, err := locate(g)
			if err != nil {
				return err
			}
			path, err := o.unitPath(g, s.Name)
			if err != nil {
				return err
			}
			if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%s is no service: there is no %s", s.Name, path)
			}
			if err := o.systemctl(cmd.Context(), "disable", "--now", export.UnitName(s.Name)); err != nil {
				return err
			}
			if err := os.Remove(path); err != nil {
				return err
			}
			if err := o.systemctl(cmd.Context(), "daemon-reload"); err != nil {
				return err
			}
			how := "down. Data stays."
			if isJoined(state) {
				how = "this host has no part in the stack until 'holdfast up -d'. Its nodes run on."
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is no service any more, and %s\n", s.Name, g.renderMessage(how))
			return err
		},
	}

	o.flags(c)
	return c
}
