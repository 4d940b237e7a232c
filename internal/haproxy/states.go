package haproxy

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
)

// ServerStates returns what the process knows of its servers, in the format that another process
// reads at its start ("show servers state"; configuration manual, "load-server-state-from-file").
func (c *Client) ServerStates(ctx context.Context) (string, error) {
	return c.do(ctx, "show servers state")
}

// Columns of a line of "show servers state", version 1.
const (
	stateBackend = 1
	stateServer  = 3
	stateAddress = 4
	stateAdmin   = 6 // bits
	statePort    = 18
	stateColumns = 19
)

// disabledInFile is the bit of stateAdmin of a server that the configuration disables
// (SRV_ADMF_CMAINT in HAProxy's include/haproxy/server-t.h).
const disabledInFile = 0x04

// KeepStates returns the states of those servers that the configuration has at the same address.
// The others have to go, because the address in a state file overrides the configuration's. A
// server that either configuration disables is left out as well: the new configuration decides.
func KeepStates(states, config string) string {
	has := configured(config)
	var kept strings.Builder
	for line := range strings.Lines(states) {
		f := strings.Fields(line)
		if len(f) < stateColumns || strings.HasPrefix(line, "#") {
			if strings.TrimSpace(line) != "" {
				kept.WriteString(line)
			}
			continue
		}
		admin, _ := strconv.Atoi(f[stateAdmin])
		if admin&disabledInFile == 0 && has[f[stateBackend]+"/"+f[stateServer]] == net.JoinHostPort(f[stateAddress], f[statePort]) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// configured returns the addresses of a configuration's servers, by BACKEND/SERVER.
func configured(config string) map[string]string {
	all := map[string]string{}
	backend := ""
	for line := range strings.Lines(config) {
		switch f := strings.Fields(line); {
		case len(f) >= 2 && f[0] == "backend":
			backend = f[1]
		case len(f) >= 3 && f[0] == "server" && !slices.Contains(f, "disabled"):
			all[backend+"/"+f[1]] = strings.Trim(f[2], "'")
		}
	}
	return all
}
