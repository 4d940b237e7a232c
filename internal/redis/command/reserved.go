package command

import "strings"

// ReservedPrefix begins the keys that are Holdfast's own.
const ReservedPrefix = "\x00holdfast\x00"

// Reserved reports whether a key is Holdfast's own.
func Reserved(key string) bool { return strings.HasPrefix(key, ReservedPrefix) }
