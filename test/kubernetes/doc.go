// Package kubernetes has the tests that need a real Kubernetes. 'make test-kubernetes' runs
// them, on the cluster of package kube, which stands on this machine while they run.
package kubernetes
