package operation

import (
	"errors"
	"fmt"

	"holdfast/internal/redis/command"
)

// Causes of errors.
var (
	errNoTurn      = errors.New("its turn did not come in time, or there was no Redis master")
	errReservedKey = fmt.Errorf("keys that start with %q are Holdfast's own", command.ReservedPrefix)
	errNoAck       = errors.New("neither the master nor enough replicas confirmed the write in time")
	errNoAnswer    = errors.New("the Redis node did not answer in time")
	errOwnAnswers  = errors.New("they are its own client's")
	errRoom        = errors.New("there is no room for it")
	ErrNoCommand   = errors.New("ERR empty command")
	errStateful    = errors.New("ERR the command belongs to a connection of its own, and there is none here")
)
