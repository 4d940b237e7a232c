package plan

// One client address may have at most this many times the number of free connections of an entry
// (A. Choudhury and E. Hahne, "Dynamic queue length thresholds", 1998). An address that is alone
// gets three quarters of all connections, and some stay free for newcomers, however many such
// addresses there are. Beyond crowdShare requests get a 429. Beyond closeShare, which is seven
// eighths for one address, connections are closed before they have sent a request.
const (
	crowdShare = 3
	closeShare = 7
)

// leastConnections is the number of connections below which an entry is not cut down when open
// files are short. HAProxy then says itself what it is missing.
const leastConnections = 3000

// otherFiles is a generous estimate of how many files a balancer has open besides those of
// connections: listeners, health checks, its log.
const otherFiles = 200

// entryConnections returns how many connections a balancer takes at each entry:
// entry.limits.connections, or fewer where the limit on open files requires it. A connection takes
// two files, the client's and the node's (HAProxy manual, "maxconn").
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

// SourceHeaderName is the header in which a balancer tells a web node the client's address, as
// SECRET/ADDRESS. The secret (Secrets.Source) proves to package web that the header comes from a
// balancer and not from the client.
const SourceHeaderName = "Holdfast-Source"
