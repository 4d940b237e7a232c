package plan

// A client address has at most so many times the connections that are free at an
// entry (A. Choudhury and E. Hahne, "Dynamic queue length thresholds", 1998): alone
// it gets three quarters of all connections, and however many such addresses there
// are, some are free for a newcomer. Beyond crowdShare requests get 429; beyond
// closeShare, seven eighths, connections are closed before they have sent any.
const (
	crowdShare = 3
	closeShare = 7
)

// leastConnections is to how many connections an entry is not cut down for want
// of open files: HAProxy itself says then what it is missing.
const leastConnections = 3000

// otherFiles is how many files a balancer has open beside those of connections:
// listeners, health checks, its log. It is generous.
const otherFiles = 200

// entryConnections is how many connections a balancer takes at each entry:
// entry.limits.connections, or what the limit of open files allows. A connection
// takes two files, the client's and the node's (HAProxy manual, "maxconn").
func (b builder) entryConnections(n node) int {
	wanted := b.stack.Entry.Limits.Connections
	files := b.host(n).Files
	if files == 0 {
		return wanted
	}
	possible := (files - otherFiles) / 2
	if b.stack.Redis.Enabled {
		possible -= redisConnections
	}
	possible /= 1 + len(b.stack.TCP)
	return min(wanted, max(possible, leastConnections))
}

// SourceHeaderName is the header by which a balancer tells a web node of which
// client a request is, as SECRET/ADDRESS. The secret (Secrets.Source) shows that
// a balancer says it and not the client (package web).
const SourceHeaderName = "Holdfast-Source"
