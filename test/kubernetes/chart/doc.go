// Package chart checks the Helm chart in deploy/chart with Helm's own engine and linter: that it
// makes the same objects as 'holdfast export kubernetes', and refuses wrong values. It is a
// module of its own, so that Holdfast's has none of what Helm needs. Its go.mod names the
// version of the helm program, too, which the tests on a real cluster run.
package chart
