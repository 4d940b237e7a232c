package supervise

import (
	"context"
	"fmt"

	"holdfast/internal/plan"
	"holdfast/internal/servers"
	"holdfast/internal/stack"
)

// ServerHere describes a server program of a stack, as it is installed on this machine.
type ServerHere struct {
	Server string `json:"server,omitempty"` // such as "Redis 8.0.2"
	Path   string `json:"path,omitempty"`
	// Wrong is why the program cannot be used, and Untested why that is not certain. If both are
	// empty, Holdfast was tested with it.
	Wrong    string `json:"wrong,omitempty"`
	Untested string `json:"untested,omitempty"`
}

// ServersHere returns the server programs that a stack needs, as they are on this machine.
func ServersHere(ctx context.Context, s stack.Stack, stateDir string) []ServerHere {
	wanted := []plan.Program{plan.HAProxy}
	if s.Redis.Enabled {
		wanted = append(wanted, plan.RedisProgram(s.Redis))
	}
	var all []ServerHere
	for _, program := range wanted {
		is, path, err := Installed(ctx, program, stateDir)
		here := ServerHere{Path: path}
		if is != (servers.Server{}) {
			here.Server = is.String()
		}
		if err != nil {
			here.Wrong = err.Error()
		} else if tested := is.Untested(); tested != "" {
			here.Untested = fmt.Sprintf("%s is %v, and Holdfast was tested with %s %s", path, is, is.Name, tested)
		}
		all = append(all, here)
	}
	return all
}
