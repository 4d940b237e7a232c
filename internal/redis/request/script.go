package request

import (
	"crypto/sha1"
	"encoding/hex"
)

// Script is a Lua script of this program's own.
type Script struct {
	Source   string
	SHA      string // the SHA-1 of source, in hexadecimal digits
	ReadOnly bool
}

// NewScript returns the script with this text.
func NewScript(source string, readOnly bool) *Script {
	sum := sha1.Sum([]byte(source))
	return &Script{Source: source, SHA: hex.EncodeToString(sum[:]), ReadOnly: readOnly}
}
