// Package web is the web node: Redis over HTTP. It keeps nothing itself; what
// it knows is in the store, so that any node can answer any request and any
// node may die. It knows neither how it was started nor what balances it.
package web
