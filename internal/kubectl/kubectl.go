// Package kubectl works with a Kubernetes cluster through the program kubectl, with the rights
// of the user who has its configuration: it reads the pods and workloads of a stack
// (objects.go), runs commands in pods, and evicts pods. It does not use a client library of
// Kubernetes. What the requests are for is the caller's business.
package kubectl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// Cluster is a namespace of a cluster that kubectl can reach. It is a plain value, and safe for
// concurrent use.
type Cluster struct {
	Program   string // absolute path of kubectl
	Context   string // the context of its configuration; empty: that of the pod it runs in
	Namespace string
}

// Open finds the program, by its name or path, and the current context of its configuration. The
// Cluster keeps this context, even if the user switches to another one meanwhile.
func Open(ctx context.Context, program, namespace string) (Cluster, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return Cluster{}, fmt.Errorf("the program kubectl is needed to reach the cluster: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return Cluster{}, err
	}
	c := Cluster{Program: path, Namespace: namespace}
	out, err := c.run(ctx, nil, "config", "view", "--output=jsonpath={.current-context}")
	if err != nil {
		return Cluster{}, err
	}
	c.Context = strings.TrimSpace(string(out))
	return c, nil
}

// Error is the error of a request that the cluster, or kubectl itself, has not carried out.
type Error struct {
	Args []string
	// Reason is the API's reason, such as NotFound, Forbidden or TooManyRequests. It is empty if
	// the API gave none or was not reached.
	Reason string
	Says   string // the output of kubectl on standard error
	err    error
}

func (e *Error) Error() string {
	says := e.Says
	if says == "" {
		says = e.err.Error()
	}
	return fmt.Sprintf("kubectl %s: %s", strings.Join(e.Args, " "), says)
}

func (e *Error) Unwrap() error { return e.err }

// IsReason reports whether an error is an *Error with this reason.
func IsReason(err error, reason string) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == reason
}

// reasonOf matches the reason that kubectl prints in parentheses.
var reasonOf = regexp.MustCompile(`(?m)^Error from server \((\w+)\)`)

// limit is how long a request may take if its context has no deadline. It is longer than the API
// takes when one of its own machines was lost.
const limit = 30 * time.Second

// Command returns the words of a kubectl command in the namespace, to be run later.
func (c Cluster) Command(args ...string) []string {
	words := []string{c.Program}
	if c.Context != "" {
		words = append(words, "--context="+c.Context)
	}
	return append(append(words, "--namespace="+c.Namespace), args...)
}

// Run runs a kubectl command in the namespace, and returns its output.
func (c Cluster) Run(ctx context.Context, args ...string) ([]byte, error) {
	return c.run(ctx, nil, args...)
}

// run runs a kubectl command with an input. It returns the output even if the command fails,
// because it may be the output of a command in a pod.
func (c Cluster) run(ctx context.Context, input []byte, args ...string) ([]byte, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}

	words := c.Command(args...)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	var out, says bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &says
	// A process group of its own, so that Ctrl-C reaches only this process, whose ctx then ends
	// kubectl.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second

	err := cmd.Run()
	if err == nil {
		return out.Bytes(), nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}

	e := &Error{Args: args, Says: strings.TrimSpace(says.String()), err: err}
	if found := reasonOf.FindStringSubmatch(e.Says); found != nil {
		e.Reason = found[1]
	}
	return out.Bytes(), e
}

// Get reads an object or a list of the API, by its path, into a value.
func (c Cluster) Get(ctx context.Context, path string, into any) error {
	out, err := c.run(ctx, nil, "get", "--raw", path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("read the answer to %s: %w", path, err)
	}
	return nil
}

// Ask sends a GET to a port of a pod, through the API server.
func (c Cluster) Ask(ctx context.Context, pod string, port int, path string) ([]byte, error) {
	return c.run(ctx, nil, "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%d/proxy%s", c.Namespace, pod, port, path))
}

// Exec runs a command in a pod, and returns its output, even if it fails.
func (c Cluster) Exec(ctx context.Context, pod Pod, command ...string) ([]byte, error) {
	args := append([]string{"exec", pod.Name, "--container=" + pod.Container, "--"}, command...)
	return c.run(ctx, nil, args...)
}

// Evict evicts a pod, as a drain of its machine does. A disruption budget may refuse that, with
// the reason TooManyRequests.
func (c Cluster) Evict(ctx context.Context, pod string) error {
	eviction, err := json.Marshal(map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction", "metadata": map[string]string{"name": pod, "namespace": c.Namespace},
	})
	if err != nil {
		return err
	}
	_, err = c.run(ctx, eviction, "create", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/eviction", c.Namespace, pod), "-f", "-")
	return err
}

// May reports whether the user may do something, such as "delete pods" or "patch nodes".
func (c Cluster) May(ctx context.Context, what string) (bool, error) {
	out, err := c.run(ctx, nil, append([]string{"auth", "can-i"}, strings.Fields(what)...)...)
	switch said := strings.TrimSpace(string(out)); said {
	case "yes", "no": // after "no" the exit code is 1, so err is not nil
		return said == "yes", nil
	}
	if err == nil {
		err = fmt.Errorf("kubectl auth can-i %s: it says %q", what, out)
	}
	return false, err
}

// Environment returns the environment variable by which kubectl finds its configuration, or nil
// if it is not set. Relative paths in it become absolute.
func Environment(getenv func(string) string) []string {
	if value := getenv("KUBECONFIG"); value != "" {
		return []string{"KUBECONFIG=" + absolute(value)}
	}
	return nil
}

// absolute makes the paths of a list absolute, so that they are valid in any directory.
func absolute(list string) string {
	var all []string
	for _, path := range filepath.SplitList(list) {
		if abs, err := filepath.Abs(path); path != "" && err == nil {
			path = abs
		}
		all = append(all, path)
	}
	return strings.Join(all, string(os.PathListSeparator))
}
