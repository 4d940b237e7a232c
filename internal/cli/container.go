package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"holdfast/internal/process"
)

// container are the flags of 'up' for containers.
type container struct {
	format    string
	contained bool
}

const containedFlag = "contained"

func (c *container) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.format, "log-format", "text", "text, or json: what the supervisor and all nodes here say goes to standard output, one JSON object a line")
	cmd.Flags().BoolVar(&c.contained, containedFlag, false, "the nodes end with this process, as in a container: a signal takes them down first. As pid 1 it is assumed")
}

// check refuses flags that contradict each other, and sets those of g.
func (c *container) check(g *globals, detach bool) error {
	background := detach || g.background
	switch {
	case c.format != "text" && c.format != "json":
		return usagef("--log-format %q: it is text or json", c.format)
	case c.format == "json" && background:
		return usagef("--log-format json is for the foreground: in the background nobody sees it, and 'holdfast logs' shows the logs")
	case (c.contained || c.first()) && background:
		return usagef("in a container the stack ends with the first process: leave out -d")
	}
	g.contained = c.contained
	return nil
}

// first reports whether this process is the first of a container. The command then runs in a child.
func (c *container) first() bool { return os.Getpid() == 1 && !c.contained }

// runAsFirst is the first process of a container. It runs the command in a child.
func (c *container) runAsFirst(g *globals) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}
	catchSIGPIPE()
	var writeLine func(text string)
	if c.format == "json" {
		log, closeLog := openJSONLog(os.Stdout)
		defer closeLog()
		writeLine = log.writeOwn
	} else {
		out := openNonBlockingWriter(g.stderr, func(lines int) []byte { return []byte("holdfast: " + lostWords(lines) + "\n") })
		defer out.close()
		writeLine = func(text string) { fmt.Fprintf(out, "holdfast: %s\n", text) }
	}
	// 'up' takes no arguments, so the flag can go at the end.
	args := append(slices.Clone(os.Args[1:]), "--"+containedFlag)
	status, err := process.First{Path: self, Args: args, Env: os.Environ(), Say: writeLine}.Run()
	if err != nil {
		return err
	}
	if status != 0 {
		return exitError(status)
	}
	return nil
}

// exitError is the exit status of a child that has reported why it failed.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }
func (e exitError) Unwrap() error { return errReported }

// logged runs a command, with its output in the format of --log-format.
func (c *container) logged(g *globals, stdout, stderr io.Writer, run func(stdout, stderr io.Writer) error) error {
	if c.contained || c.format == "json" {
		catchSIGPIPE()
	}
	if c.format != "json" {
		return run(stdout, stderr)
	}
	log, closeLog := openJSONLog(stdout)
	defer closeLog()
	g.logs, g.stderr = log, log
	err := run(log, log)
	if err == nil || errors.As(err, new(*handOverError)) {
		return err
	}
	g.logs.writeOwn(g.renderMessage(err.Error()))
	return errors.Join(errReported, err)
}
