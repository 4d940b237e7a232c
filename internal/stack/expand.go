package stack

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/yamltree"
)

// NodeVariables are the variables that differ from node to node of an application. In the arguments
// and the env of a command, $NAME and ${NAME} stand for their values.
var NodeVariables = []string{"HOST", "PORT", "HOLDFAST_NODE"}

// RedisVariables tell a command where Redis is. They are only replaced in env, because every user
// of the machine can see a password in an argument.
var RedisVariables = []string{"REDIS_URL", "REDIS_SENTINELS", "REDIS_MASTER_NAME"}

// PodPasswordVariable has the password of REDIS_URL in a pod of a user's program. Kubernetes puts it
// into the URL.
const PodPasswordVariable = "HOLDFAST_REDIS_PASSWORD"

// Expand replaces $NAME and ${NAME} where value knows the name, and $$ by a single $. It leaves
// everything else as it is, because it may be meant for a shell.
func Expand(text string, value func(name string) (string, bool)) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		out.WriteString(before)
		if !found {
			return out.String()
		}

		name, length := variableName(rest)
		switch v, known := value(name); {
		case strings.HasPrefix(rest, "$"):
			out.WriteByte('$')
			text = rest[1:]
		case name != "" && known:
			out.WriteString(v)
			text = rest[length:]
		default:
			out.WriteByte('$')
			text = rest
		}
	}
}

// variableName returns the name that follows a $, alone or in braces, and how many bytes it takes
// including the braces; "" if no name follows. The name is as long as possible: $HOSTNAME is not
// $HOST.
func variableName(s string) (name string, length int) {
	bare := strings.TrimPrefix(s, "{")
	end := 0
	for end < len(bare) && isNameByte(bare[end], end == 0) {
		end++
	}
	name = bare[:end]
	if len(bare) == len(s) {
		return name, end
	}
	if !strings.HasPrefix(bare[end:], "}") {
		return "", 0
	}
	return name, end + len("{}")
}

func isNameByte(c byte, first bool) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || !first && c >= '0' && c <= '9'
}

// adviseProgram warns where the arguments and the env of the application at p contain something
// that only a shell would replace, because no shell runs there.
func adviseProgram(r *reader, p path, s Stack, a App) {
	switch {
	case a.Image != "":
		adviseArguments(r, p.key("args"), a.Args, 0)
	case !runsShell(a.Command):
		adviseArguments(r, p.key("command"), a.Command[1:], 1)
	}
	env := p.key("env")
	known := NodeVariables
	if s.Redis.Enabled {
		known = slices.Concat(NodeVariables, RedisVariables)
	}
	for _, name := range sortedKeys(a.Env) {
		adviseVariables(r, env.key(name), env.key(name), a.Env[name], known)
	}
}

// adviseArguments warns of such arguments. The first of them is the item with the index first at p.
func adviseArguments(r *reader, p path, args []string, first int) {
	for i, arg := range args {
		at := p.item(first + i)
		adviseVariables(r, at, p, arg, NodeVariables)
		if strings.HasPrefix(arg, "~/") || strings.Contains(arg, "=~/") {
			r.warn(r.positionOf(at), "%s: the ~ in %s is passed on as it is, no shell replaces it: write the whole path", p, yamltree.Quoted(arg))
		}
	}
}

// adviseVariables warns of variables in a text that are not replaced.
func adviseVariables(r *reader, at, p path, text string, known []string) {
	said := map[string]bool{}
	Expand(text, func(name string) (string, bool) {
		if name == "" || slices.Contains(known, name) || said[name] {
			return "", false
		}
		said[name] = true
		advice := fmt.Sprintf("write $$%s where that is meant", name)
		switch near := nearestVariable(name, known); {
		case slices.Contains(RedisVariables, name):
			advice = "the program has it in its environment when the stack has Redis"
		case near != "":
			advice = fmt.Sprintf("did you mean %s? Else write $$%s", near, name)
		}
		r.warn(r.positionOf(at), "%s: $%s is passed on as it is, only %s are replaced here: %s", p, name, yamltree.Listed(dollars(known), "and"), advice)
		return "", false
	})
}

// nearestVariable returns what an unknown variable was probably meant to be: $PORT for $port,
// ${HOST}NAME for $HOSTNAME.
func nearestVariable(name string, known []string) string {
	for _, k := range known {
		if rest, longer := strings.CutPrefix(name, k); longer {
			return "${" + k + "}" + rest
		}
	}
	if near := nearest(name, known); near != "" {
		return "$" + near
	}
	return ""
}

func dollars(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = "$" + n
	}
	return out
}

// runsShell reports whether a command runs a script from its own arguments (sh -c '…'), in which
// the shell replaces what Expand leaves.
func runsShell(command []string) bool {
	shells := []string{"sh", "bash", "dash", "ash", "zsh", "ksh", "busybox", "fish"}
	if !slices.Contains(shells, filepath.Base(command[0])) {
		return false
	}
	return slices.ContainsFunc(command[1:], func(arg string) bool {
		return strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") && strings.HasSuffix(arg, "c")
	})
}
