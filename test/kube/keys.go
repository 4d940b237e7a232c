//go:build linux

package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// writeKeys writes the keys and certificates by which the programs of a cluster authenticate: an
// authority (ca), one certificate for all servers (server), one for all clients, with all rights
// (admin), one for the API server's requests in the name of others (proxy), and the key for the
// tokens of service accounts (accounts). kubeconfig is the configuration for reaching the API server.
func writeKeys(dir string, nodes int) error {
	authority := &x509.Certificate{
		Subject: pkix.Name{CommonName: "tests"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	ca, err := writePair(dir, "ca", authority, authority, nil)
	if err != nil {
		return err
	}

	server := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "server"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(ControlPlane), net.ParseIP(firstService)},
	}
	for node := 1; node <= nodes; node++ {
		server.IPAddresses = append(server.IPAddresses, net.ParseIP(NodeAddress(node)))
	}
	if _, err := writePair(dir, "server", server, authority, ca); err != nil {
		return err
	}

	// Kubernetes gives all rights to this group.
	admin := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if _, err := writePair(dir, "admin", admin, authority, ca); err != nil {
		return err
	}
	proxy := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "front-proxy"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if _, err := writePair(dir, "proxy", proxy, authority, ca); err != nil {
		return err
	}
	if _, err := writePair(dir, "accounts", &x509.Certificate{}, authority, ca); err != nil {
		return err
	}

	return os.WriteFile(filepath.Join(dir, "kubeconfig"), fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: tests
  cluster: {server: "https://%s:6443", certificate-authority: ca.crt}
users:
- name: admin
  user: {client-certificate: admin.crt, client-key: admin.key}
contexts:
- name: tests
  context: {cluster: tests, user: admin}
current-context: tests
`, ControlPlane), 0o600)
}

// writePair writes NAME.key and NAME.crt, and returns the key. Without a signer, the certificate is
// self-signed.
func writePair(dir, name string, cert, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if signer == nil {
		signer = key
	}
	if cert.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return nil, err
	}
	cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	signed, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	for file, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: signed},
		name + ".key": {Type: "EC PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, err
		}
	}
	return key, nil
}
