//go:build linux

package kubernetes

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// serialAt returns the serial number of the certificate that is shown at an address.
func serialAt(t *testing.T, address string) (string, error) {
	conn, err := cluster.Dial(t.Context(), address)
	if err != nil {
		return "", err
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	defer secure.Close()
	_ = secure.SetDeadline(time.Now().Add(3 * time.Second))
	if err := secure.Handshake(); err != nil {
		return "", err
	}
	return secure.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

func TestCertificatesAreRenewedWhilePodsLive(t *testing.T) {
	const space, life = "renewal", 4 * time.Minute
	url := startStackWith(t, space, 30068, stackFile, func(manifests string) string {
		flag := "- --log-format=json\n"
		return strings.ReplaceAll(manifests, flag, flag+"        - --certificate-life="+life.String()+"\n")
	})
	began := time.Now()
	open(t, space) // this test is no part of the stack, and reads the certificates
	first := map[string]string{}
	for component, port := range map[string]string{"redis": "6379", "sentinel": "26379", "web": "5001"} {
		out := kubectl(t, "-n", space, "get", "pods", "-l", "app.kubernetes.io/component="+component, "-o", "jsonpath={.items[*].status.podIP}")
		for _, ip := range strings.Fields(out) {
			address := net.JoinHostPort(ip, port)
			eventually(t, component+" shows a certificate", func() (err error) {
				first[address], err = serialAt(t, address)
				return err
			})
		}
	}
	if len(first) != 8 {
		t.Fatalf("certificates are shown at %v", first)
	}

	l := startLoad(t, url, 2)
	for address, serial := range first {
		eventually(t, address+" shows another certificate", func() error {
			now, err := serialAt(t, address)
			if err == nil && now == serial {
				err = fmt.Errorf("it is %s still", now)
			}
			return err
		})
	}
	// The first certificates have expired by then: a program that still used one would be refused.
	time.Sleep(time.Until(began.Add(life + 10*time.Second)))
	l.serves(t, "all first certificates have ended")
	// New connections work, too.
	kubectl(t, "-n", space, "delete", "pod", "-l", "app.kubernetes.io/component=web", "--wait=false")
	l.serves(t, "other web nodes")
	allReady(t, space)
	if who := restarts(t, space); who != "" {
		t.Errorf("the renewal has Kubernetes restart %s", who)
	}
	l.check(t)
}
