package cluster

import (
	"strconv"
	"strings"

	"holdfast/internal/redis/request"
)

// A Token of a cluster has the mark of the topology, and the offset of each shard. With another
// topology it tells nothing, and the masters are asked.
const (
	clusterToken = "hfc1."
	tokenName    = 12
)

// tokenFor returns the token of one shard that is part of a cluster's token. It reports false if a
// replica cannot be judged by it.
func tokenFor(t *topology, s *clusterShard, token string) (string, bool) {
	if token == "" {
		return "", true
	}
	rest, ok := strings.CutPrefix(token, clusterToken)
	mark, list, _ := strings.Cut(rest, ".")
	if n, err := strconv.ParseUint(mark, 16, 64); !ok || err != nil || n != t.mark {
		return "", false
	}
	name, offset := s.name()[:tokenName], int64(0)
	for entry := range strings.SplitSeq(list, ".") {
		id, digits, ok := strings.Cut(entry, "-")
		n, err := strconv.ParseInt(digits, 36, 64)
		if !ok || err != nil {
			return "", false
		}
		if id == name {
			offset = max(offset, n)
		}
	}
	return request.TokenOf(offset), true
}
