package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
)

// A balancer that finds web nodes by DNS, and speaks with them in plain, asks with each health
// check whether a node is one of its stack: a server of somebody else may have got the address,
// and be well, too. The check has a challenge in ChallengeHeader, and the node answers with the
// Response to it in ResponseHeader.
const (
	ChallengeHeader = "Holdfast-Challenge"
	ResponseHeader  = "Holdfast-Response"
)

// ChallengeKey is the key of responses, which follows from a secret that only the balancers and
// web nodes of a stack have.
func ChallengeKey(secret string) []byte {
	key := hmac.New(sha256.New, []byte(secret))
	key.Write([]byte("challenge of a health check"))
	return key.Sum(nil)
}

// Response is what a node of the stack with that secret answers to a challenge: its HMAC with
// SHA-256, in capital hexadecimal digits, as HAProxy writes it.
func Response(secret, challenge string) string {
	mac := hmac.New(sha256.New, ChallengeKey(secret))
	mac.Write([]byte(challenge))
	return fmt.Sprintf("%X", mac.Sum(nil))
}
