package plan

import (
	_ "embed"
	"time"
)

// A balancer holds new connections to the Redis master while there is no such master: most clients
// take a refused connection for a failure, and wait for an answer without a limit.

// awaitMaster is the script by which a balancer does so. HAProxy cannot say it otherwise: its
// rules look at the servers once.
//
//go:embed await-master.lua
var awaitMaster string

// awaitMasterFile is that script among a balancer's files.
const awaitMasterFile = "await-master.lua"

// writableKey is the key that a balancer deletes at a redis node to see whether that takes
// writes. There is no such key. A node of a stack that was planned by an earlier version does
// not let a balancer do so (NOPERM), which tells nothing against it.
const writableKey = "holdfast-balancer-check"

// awaitMasterLimit is how long it holds one at most; await-master.lua says the same. An
// operation of a web node waits as long for a master.
const awaitMasterLimit = 10 * time.Second
