package cli

import (
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
)

// pathFlag is a flag whose value is a path. It replaces a ~ itself, because a shell does so only at
// the beginning of a word: not in --state=~/x (bash), nor in quotes.
type pathFlag struct {
	path   *string
	getenv func(string) string
}

func (p pathFlag) String() string {
	if p.path == nil {
		return ""
	}
	return *p.path
}

func (pathFlag) Type() string { return "string" }

// Set stores the path with its ~ replaced.
func (p pathFlag) Set(s string) (err error) {
	*p.path, err = expandHome(s, p.getenv)
	return err
}

// pathVar registers a flag for a path.
func pathVar(flags *pflag.FlagSet, path *string, getenv func(string) string, name, short, usage string) {
	flags.VarP(pathFlag{path, getenv}, name, short, usage)
}

// expandHome replaces a ~ at the beginning of a path with the home directory.
func expandHome(path string, getenv func(string) string) (string, error) {
	if !strings.HasPrefix(path, "~") {
		return path, nil
	}
	user, rest, _ := strings.Cut(path[1:], "/")
	if user != "" {
		return "", usagef("%q begins with ~%s, which only a shell replaces: write the whole path, or ./%s for a file of that name", path, user, path)
	}
	home, err := homeDir(getenv)
	if err != nil {
		return "", usagef("%q begins with ~: %w", path, err)
	}
	return filepath.Join(home, rest), nil
}

// homeDir returns the user's home directory, an absolute path.
func homeDir(getenv func(string) string) (string, error) {
	switch home := getenv("HOME"); {
	case home == "":
		return "", usagef("HOME is not set")
	case !filepath.IsAbs(home):
		return "", usagef("HOME is %q, which is not an absolute path", home)
	default:
		return home, nil
	}
}

// stateDir returns the absolute path of the state directory of the stack with that name.
//
// It ignores a relative XDG_STATE_HOME, as the XDG Base Directory Specification demands ("All paths
// set in these environment variables must be absolute"): it would stand for another directory in
// each working directory.
func stateDir(g *globals, name string) (string, error) {
	if g.state != "" {
		return filepath.Abs(g.state)
	}
	base := g.getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) {
		home, err := homeDir(g.getenv)
		switch {
		case err != nil && base != "":
			return "", usagef("no state directory: XDG_STATE_HOME is %q, which is not an absolute path and is ignored, and %w: give --state DIR", base, err)
		case err != nil:
			return "", usagef("no state directory: XDG_STATE_HOME is not set, and %w: give --state DIR", err)
		}
		return stateIn(home, name), nil
	}
	return filepath.Join(base, "holdfast", name), nil
}

// stateIn returns the state directory of a stack below a home directory.
func stateIn(home, name string) string { return filepath.Join(home, ".local/state/holdfast", name) }
