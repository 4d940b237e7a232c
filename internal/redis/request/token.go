package request

import (
	"strconv"
	"strings"
)

// TokenPrefix begins a Token of one master; its replication offset follows. The next master
// goes on counting from what it had.
const TokenPrefix = "hf1."

// TokenOf returns the Token of a replication offset.
func TokenOf(offset int64) string { return TokenPrefix + strconv.FormatInt(offset, 36) }

// OffsetOf returns the replication offset in a Token; 0 if there is no token. It reports
// false if the text is not such a token: then the master has to be asked.
func OffsetOf(token string) (int64, bool) {
	if token == "" {
		return 0, true
	}
	digits, ok := strings.CutPrefix(token, TokenPrefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 36, 64)
	return n, err == nil && n >= 0
}
