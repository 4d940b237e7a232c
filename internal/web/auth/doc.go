// Package auth decides who may do what. auth.go finds the rights of a request's token, and decides
// which commands and streams they allow. It also names the sender of a request, whose share of the
// node's room is counted (package fair). site.go refuses requests that another site's page may have
// had a browser send, and cors.go answers the pages that may.
//
// Not here: tokens and their rights (package token), and which commands are dangerous (package
// commands).
package auth
