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

// wireTLS are the settings by which this host speaks with nodes of a stack; nil: in plain.
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

// Way is how a process of this host reaches the redis nodes and Sentinels of a stack.
func Way(stateDir string, s stack.Stack) (redis.Way, error) {
	settings, err := wireTLS(stateDir, s)
	return redis.Way{TLS: settings}, err
}

// LastWay is Way for the stack that a state directory has, or had last.
func LastWay(stateDir string) (redis.Way, error) {
	s, _, known := LastFile(stateDir)
	if !known {
		return redis.Way{}, nil
	}
	return Way(stateDir, s)
}
