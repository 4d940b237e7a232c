package supervise

import (
	"crypto/tls"
	"fmt"
	"path/filepath"

	"holdfast/internal/keypair"
	"holdfast/internal/plan"
	"holdfast/internal/redis"
	"holdfast/internal/stack"
)

// wireTLS returns the TLS configuration by which this host speaks with the nodes of a stack;
// nil: plain TCP.
func wireTLS(stateDir string, s stack.Stack) (*tls.Config, error) {
	if !s.Encrypts() {
		return nil, nil
	}
	settings, err := keypair.Hosts(filepath.Join(stateDir, plan.CertificateFile), filepath.Join(stateDir, plan.AuthorityFile))
	if err != nil {
		return nil, fmt.Errorf("the nodes of the stack speak TLS, and the certificate of this host cannot be read: %w", err)
	}
	return settings, nil
}

// Way returns how a process of this host reaches the redis nodes and Sentinels of a stack.
func Way(stateDir string, s stack.Stack) (redis.Way, error) {
	settings, err := wireTLS(stateDir, s)
	return redis.Way{TLS: settings}, err
}

// LastWay is Way for the stack that a state directory last ran.
func LastWay(stateDir string) (redis.Way, error) {
	s, _, known := LastFile(stateDir)
	if !known {
		return redis.Way{}, nil
	}
	return Way(stateDir, s)
}
