// Package export translates a stack for other systems: to a systemd unit (systemd.go), to Docker
// Compose services (compose.go and image.go), and to Kubernetes manifests (kubernetes.go). The
// texts are in the templates beside them (.qtpl). The package is pure: it uses no clock, no
// disk and no network. Package cli writes what it returns.
package export
