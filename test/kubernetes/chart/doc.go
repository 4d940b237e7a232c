// Package chart checks the Helm chart in deploy/chart with Helm's own engine and linter: it makes
// the same objects as 'holdfast export kubernetes', and refuses wrong values. It is a module of its
// own, so that Holdfast's module does not depend on Helm. Its go.mod also names the version of the
// helm program for the tests on a real cluster.
package chart
