package plan

import (
	"encoding/hex"
	"fmt"
	"io"
	"maps"

	"holdfast/internal/stack"
)

// NewSecrets draws the secrets of a stack from read, which has to be a source
// of cryptographic randomness such as crypto/rand.Reader.
func NewSecrets(read io.Reader, s stack.Stack) (Secrets, error) {
	return Secrets{}.Complete(read, s)
}

// Complete returns the secrets together with those that the stack needs in addition, drawn from
// read as in NewSecrets: a new Sentinel, say, has no run id yet. Existing secrets stay, even those
// of a Sentinel or a program that is no longer in the stack.
func (x Secrets) Complete(read io.Reader, s stack.Stack) (Secrets, error) {
	return x.fill(s, func(_ string, size int) (string, error) { return drawHex(read, size) })
}

// CheckComplete returns an error where the stack needs a secret that is missing. Pods must not draw
// secrets: each would draw a different one.
func (x Secrets) CheckComplete(s stack.Stack) error {
	_, err := x.fill(s, func(label string, _ int) (string, error) {
		return "", fmt.Errorf("the secrets of the stack %s lack the %s: all of them follow from its seed, and none is made otherwise", s.Name, label)
	})
	return err
}

// fill returns the secrets together with those that the stack needs in addition. It gets those from
// get: size random bytes in hexadecimal digits, for a label that differs from those of all other
// secrets.
func (x Secrets) fill(s stack.Stack, get func(label string, size int) (string, error)) (Secrets, error) {
	for _, password := range x.passwords() {
		if *password.value != "" {
			continue
		}
		var err error
		if *password.value, err = get("password of "+password.user, 32); err != nil {
			return Secrets{}, err
		}
	}
	var sentinels []string
	for _, n := range ofKind(nodes(s, Facts{}), Sentinel) {
		sentinels = append(sentinels, n.name)
	}
	var err error
	if x.SentinelIDs, err = fillMap(x.SentinelIDs, sentinels, "run id of ", 20, get); err != nil {
		return Secrets{}, err
	}
	if x.Programs, err = fillMap(x.Programs, s.Programs(), "password of program ", 32, get); err != nil {
		return Secrets{}, err
	}
	return x, nil
}

// fillMap returns a copy of the map that has a secret for each name.
func fillMap(has map[string]string, names []string, label string, size int, get func(label string, size int) (string, error)) (map[string]string, error) {
	all := maps.Clone(has)
	if all == nil {
		all = map[string]string{}
	}
	for _, name := range names {
		if all[name] != "" {
			continue
		}
		secret, err := get(label+name, size)
		if err != nil {
			return nil, err
		}
		all[name] = secret
	}
	return all, nil
}

// ProgramSecret returns the name under which the password of an application's Redis user is derived
// (identity.Authority.Secret).
func ProgramSecret(app string) string { return "program " + app }

// programUserName returns the name of an application's Redis user.
func programUserName(app string) string { return "app-" + app }

// placeholder is the beginning of a text that stands for a secret.
const placeholder = "<secret:"

// Placeholders returns stand-ins for the secrets in a plan that is only shown: "<secret:web>" and
// so on. A server would not accept them.
func Placeholders(s stack.Stack) Secrets {
	var x Secrets
	for _, password := range x.passwords() {
		*password.value = placeholder + password.user + ">"
	}
	x.SentinelIDs = map[string]string{}
	for _, n := range ofKind(nodes(s, Facts{}), Sentinel) {
		x.SentinelIDs[n.name] = placeholder + "id of " + n.name + ">"
	}
	x.Programs = map[string]string{}
	for _, app := range s.Programs() {
		x.Programs[app] = placeholder + programUserName(app) + ">"
	}
	return x
}

type password struct {
	user  string
	value *string
}

// passwords returns all passwords by user, in a fixed order.
func (x *Secrets) passwords() []password {
	return []password{
		{"web", &x.Web}, {"replication", &x.Replication}, {"sentinel", &x.Sentinel},
		{"scripts", &x.Scripts}, {"read-scripts", &x.ReadScripts},
		{"operator", &x.Operator}, {"balancer", &x.Balancer}, {"drill", &x.Drill}, {"source", &x.Source},
	}
}

// drawHex draws n random bytes and writes them as hexadecimal digits.
func drawHex(read io.Reader, n int) (string, error) {
	raw := make([]byte, n)
	if _, err := io.ReadFull(read, raw); err != nil {
		return "", fmt.Errorf("drawing a secret: %w", err)
	}
	return hex.EncodeToString(raw), nil
}
