// Package export says a stack in the words of other systems: as a unit of systemd, and as
// services of Docker Compose. It is pure: no clock, no disk, no network. Package cli writes what it
// returns.
package export
