// Package kubernetes has the tests that need a real Kubernetes. 'make test-kubernetes' runs them,
// on a cluster of package kube, which runs on this machine meanwhile.
package kubernetes
