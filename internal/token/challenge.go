package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
)

// With each health check a balancer asks a web node that it found by DNS, and speaks to without
// TLS, to prove that it belongs to the stack. A stranger's server may have got the address, and may
// be healthy as well. The check sends a challenge in ChallengeHeader, and the node returns the
// Response to it in ResponseHeader.
const (
	ChallengeHeader = "Holdfast-Challenge"
	ResponseHeader  = "Holdfast-Response"
)

// ChallengeKey returns the key for responses. It follows from a secret that only the balancers and
// web nodes of a stack have.
func ChallengeKey(secret string) []byte {
	key := hmac.New(sha256.New, []byte(secret))
	key.Write([]byte("challenge of a health check"))
	return key.Sum(nil)
}

// Response returns what a node of the stack with that secret has to return to a challenge: the HMAC
// with SHA-256, in capital hexadecimal digits as HAProxy writes it.
func Response(secret, challenge string) string {
	mac := hmac.New(sha256.New, ChallengeKey(secret))
	mac.Write([]byte(challenge))
	return fmt.Sprintf("%X", mac.Sum(nil))
}
