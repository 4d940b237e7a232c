// Package kubectl talks to a Kubernetes cluster by the program kubectl, as the user who has
// its configuration: the pods and workloads of a stack, commands in pods, evictions. There is
// no client library of Kubernetes here; what the requests mean is the caller's affair.
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

// Cluster is a namespace of a cluster, as kubectl reaches it. It is a value; its methods may
// be called at once.
type Cluster struct {
	Program   string // absolute path of kubectl
	Context   string // of its configuration; empty: what a pod finds in itself
	Namespace string
}

// Open finds the program, by its name or path, and the context that its configuration has now:
// another one that the user chooses meanwhile is none of this Cluster.
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

// Error is the error of a request that the cluster, or kubectl, did not carry out.
type Error struct {
	Args []string
	// Reason is the API's word for it, such as NotFound, Forbidden or TooManyRequests; empty:
	// it has none, or the API was not reached.
	Reason string
	Says   string // what kubectl wrote
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

// IsReason reports whether an error is one of the API with that reason.
func IsReason(err error, reason string) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == reason
}

// reasonOf finds the reason that kubectl puts into parentheses.
var reasonOf = regexp.MustCompile(`(?m)^Error from server \((\w+)\)`)

// limit is how long a request may take that says nothing of its own. It is more than what the
// API takes where a machine of its own has been lost.
const limit = 30 * time.Second

// Command returns the words of a command of kubectl in the namespace, for who carries it out later.
func (c Cluster) Command(args ...string) []string {
	words := []string{c.Program}
	if c.Context != "" {
		words = append(words, "--context="+c.Context)
	}
	return append(append(words, "--namespace="+c.Namespace), args...)
}

// Run runs a command of kubectl in the namespace, and returns what it wrote.
func (c Cluster) Run(ctx context.Context, args ...string) ([]byte, error) {
	return c.run(ctx, nil, args...)
}

// run returns what was written also where the command fails: it may have been that of a
// command in a pod.
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
	// A Ctrl-C is for who called this, and ends kubectl with ctx.
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

// Get reads an object or a list of the API, by its path.
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

// Ask asks a port of a pod, through the API.
func (c Cluster) Ask(ctx context.Context, pod string, port int, path string) ([]byte, error) {
	return c.run(ctx, nil, "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%d/proxy%s", c.Namespace, pod, port, path))
}

// Exec runs a command in a pod, and returns what it wrote, also where it fails.
func (c Cluster) Exec(ctx context.Context, pod Pod, command ...string) ([]byte, error) {
	args := append([]string{"exec", pod.Name, "--container=" + pod.Container, "--"}, command...)
	return c.run(ctx, nil, args...)
}

// Evict asks for the end of a pod, as a drain does: a disruption budget may refuse it, with
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
	case "yes", "no": // no is an exit code of 1, too
		return said == "yes", nil
	}
	if err == nil {
		err = fmt.Errorf("kubectl auth can-i %s: it says %q", what, out)
	}
	return false, err
}

// Environment is the setting of the environment that kubectl finds its configuration by; nil:
// it finds it without.
func Environment(getenv func(string) string) []string {
	if value := getenv("KUBECONFIG"); value != "" {
		return []string{"KUBECONFIG=" + absolute(value)}
	}
	return nil
}

// absolute makes the paths of a list absolute, so that they mean the same in another directory.
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
