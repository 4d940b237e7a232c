package export

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// programStart is how many seconds a user's program may take at least until it listens.
const programStart = 120

// startLimit returns how many seconds a program may take until it listens. Then Kubernetes starts
// it again.
func (k Kubernetes) startLimit(name string) int {
	return max(programStart, seconds(k.Stack.Apps[name].Health.Start))
}

// programs returns the applications whose pods run an image of the user's own.
func (k Kubernetes) programs() []string {
	return slices.DeleteFunc(k.apps(), func(name string) bool { return k.Stack.Apps[name].Kind() != stack.Image })
}

// ownComponents returns the components whose pods run Holdfast.
func (k Kubernetes) ownComponents() (names []string) {
	for _, d := range k.sets() {
		if !d.program {
			names = append(names, d.name)
		}
	}
	return names
}

// redisMasterPort returns the port of the Service that leads to the Redis master.
func (k Kubernetes) redisMasterPort() int {
	_, port := plan.PodRedisMaster(k.Stack)
	return port
}

// variable is a variable in the environment of a pod. In its value, $(NAME) is for Kubernetes to
// replace.
type variable struct{ name, value string }

// environment returns the environment of a program besides what differs from pod to pod, and
// besides its password.
func (k Kubernetes) environment(name string) (all []variable) {
	app := k.Stack.Apps[name]
	known := podVariables(app)
	ours := []string{"HOST", "PORT"}
	if k.Stack.Redis.Enabled {
		host, port := plan.PodRedisMaster(k.Stack)
		known["REDIS_URL"] = plan.ProgramURL(name, reference(stack.PodPasswordVariable), net.JoinHostPort(host, strconv.Itoa(port)))
		if _, own := app.Env["REDIS_URL"]; !own {
			ours = append(ours, "REDIS_URL")
		}
	}
	for _, v := range ours {
		all = append(all, variable{v, podText("$"+v, known)})
	}
	for _, v := range slices.Sorted(maps.Keys(app.Env)) {
		all = append(all, variable{v, podText(app.Env[v], known)})
	}
	return all
}

// arguments returns the arguments of a program.
func (k Kubernetes) arguments(name string) (all []string) {
	app := k.Stack.Apps[name]
	for _, arg := range app.Args {
		all = append(all, podText(arg, podVariables(app)))
	}
	return all
}

// podVariables returns the values of stack.NodeVariables in a pod of a program.
func podVariables(app stack.App) map[string]string {
	return nodeVariables(reference("HOLDFAST_NODE"), strconv.Itoa(app.Port))
}

// referenceMark stands for the $ of a reference until all other dollars are escaped. No text of a
// stack file has this character.
const referenceMark = "\x00"

// reference returns a reference to another variable of the container.
func reference(name string) string { return referenceMark + "(" + name + ")" }

// podText expands a text of the stack file for Kubernetes, which itself replaces $(NAME), and $$ by
// a single $.
func podText(text string, known map[string]string) string {
	text = strings.ReplaceAll(expand(text, known), "$", "$$")
	return strings.ReplaceAll(text, referenceMark, "$")
}

// handler returns how the kubelet asks a program: for its health where ready is true, else whether
// it listens. It cannot ask a program for its health that expects the PROXY protocol.
func (k Kubernetes) handler(name string, ready bool) string {
	app := k.Stack.Apps[name]
	if !ready || app.Health.Path == "" || app.SendProxy {
		return "tcpSocket: {port: http}"
	}
	return fmt.Sprintf("httpGet: {path: %s, port: http, httpHeaders: [{name: Host, value: %s}]}", quoted(app.Health.Path), quoted(app.Health.Host))
}

// checkTimes returns how often and how long the kubelet asks for the health of a program, in
// seconds, which are whole ones there.
func (k Kubernetes) checkTimes(name string) (every, within int) {
	return max(1, seconds(k.Stack.Apps[name].Health.Interval)), max(1, seconds(k.Stack.Timeouts.Check))
}
