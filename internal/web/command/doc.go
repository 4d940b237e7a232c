// Package command serves commands, pipelines and transactions. arguments.go reads commands from
// bodies, and command.go from paths; emptybody.go decides when an empty body is an argument.
// command.go also checks a request, has the store carry it out, and sends the results. tutorial.go
// serves /get and /set as the tutorial has them that this API began with (docs/web.md, "Routes").
//
// Not here: what a command may do (package auth), how results are written (package response), and
// requests that an event loop serves (package web).
package command
