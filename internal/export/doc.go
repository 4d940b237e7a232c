// Package export says a stack in the words of other systems: today as a unit of
// systemd. It is pure: no clock, no disk, no network. Package cli writes what it
// returns.
package export
