package plan

import (
	_ "embed"
	"time"
)

// Most clients take a refused connection for a failure, but wait for an answer without a limit. So
// a balancer holds new connections to the Redis master while there is no master.

// awaitMaster is the script that holds those connections. HAProxy's own rules cannot do it: they
// look at the servers only once.
//
//go:embed await-master.lua
var awaitMaster string

// awaitMasterFile is the name of the script among a balancer's files.
const awaitMasterFile = "await-master.lua"

// writableKey is the key that a balancer deletes at a redis node to find out whether the node takes
// writes. There is no such key. A node of a stack that was planned by an earlier version refuses
// the command (NOPERM), which proves nothing against the node.
const writableKey = "holdfast-balancer-check"

// awaitMasterLimit is how long a balancer holds a connection at most; await-master.lua has the same
// limit. An operation of a web node waits as long for a master.
const awaitMasterLimit = 10 * time.Second
