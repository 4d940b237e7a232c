package redis

// Spec is what Redis says of one of its commands (COMMAND).
type Spec struct {
	Name string // lower case; of a subcommand "config|set"
	// Write: it may change data. Everything that is not known does.
	Write bool
	// ReadOnly: it reads data and changes none.
	ReadOnly bool
	// Blocking: it may wait for data. Dangerous: it is of the category
	// @dangerous. Admin: of the category @admin.
	Blocking, Dangerous, Admin bool
	// Stateful: it changes the connection it comes on (SELECT, MULTI, …), so
	// it means nothing here.
	Stateful bool
	// NoScript: it cannot run inside a script.
	NoScript bool
	// Categories are the ACL categories it is in, without the @, such as
	// "string" or "scripting".
	Categories []string

	keys []keyRange
}

type keyRange struct{}

// Keys are the keys that a command names. It answers false when Redis' own
// description does not tell them.
func (s *Spec) Keys(cmd Command) ([]string, bool) { return nil, false }
