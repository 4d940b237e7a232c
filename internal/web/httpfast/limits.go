package httpfast

import "time"

// MaxHeader bounds the bytes of a request's line and header fields together. /set?key=K&value=V has
// the value in the query, so this is the value's limit there.
const MaxHeader = 128 << 10

// Time limits of a connection.
const (
	ReadTimeout  = 10 * time.Second // for a whole request; a large body gets more
	WriteTimeout = 30 * time.Second
)
