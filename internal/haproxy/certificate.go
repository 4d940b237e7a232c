package haproxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ErrNoList is the error for a list of certificates that HAProxy does not know.
var ErrNoList = errors.New("no such list of certificates is known")

// ListedCertificate is a certificate that HAProxy presents to clients.
type ListedCertificate struct {
	Path  string
	SHA1  string   // fingerprint
	Chain []string // names of the certificates after it, each with its issuer's, as HAProxy writes them
}

// ListCertificates returns the certificates that a list (crt-list) names, in its order.
func (c *Client) ListCertificates(ctx context.Context, list string) (all []ListedCertificate, err error) {
	out, err := c.do(ctx, "show ssl crt-list "+word(list))
	if err != nil {
		return nil, err
	}

	first, rest, _ := strings.Cut(strings.TrimSpace(out), "\n")
	if first != "# "+list {
		return nil, fmt.Errorf("HAProxy at %s: %s: %w: %s", c.socket, list, ErrNoList, first)
	}

	for line := range strings.Lines(rest) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		one := ListedCertificate{Path: line}
		err := c.readCertificate(ctx, line, func(name, value string) {
			switch name {
			case "SHA1 FingerPrint":
				one.SHA1 = value
			case "Chain Subject":
				one.Chain = append(one.Chain, value)
			case "Chain Issuer":
				if last := len(one.Chain) - 1; last >= 0 {
					one.Chain[last] += " by " + value
				}
			}
		})
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// word returns a path as one word of a command.
func word(path string) string {
	return strings.NewReplacer(`\`, `\\`, " ", `\ `, ";", `\;`).Replace(path)
}

// Certificate returns the serial number, in hexadecimal digits, of the certificate that HAProxy has
// read from a file ("show ssl cert").
func (c *Client) Certificate(ctx context.Context, path string) (serial string, err error) {
	err = c.readCertificate(ctx, path, func(name, value string) {
		if name == "Serial" {
			serial = value
		}
	})
	return serial, err
}

// readCertificate calls tells with each line that HAProxy reports about a certificate.
func (c *Client) readCertificate(ctx context.Context, path string, tells func(name, value string)) error {
	out, err := c.do(ctx, "show ssl cert "+word(path))
	if err != nil {
		return err
	}
	known := false
	for line := range strings.Lines(out) {
		name, value, is := strings.Cut(line, ":")
		known = known || is && name == "Serial"
		if is {
			tells(strings.TrimSpace(name), strings.TrimSpace(value))
		}
	}
	if !known {
		return fmt.Errorf("HAProxy at %s: no certificate is known from %s: %s", c.socket, path, strings.TrimSpace(out))
	}
	return nil
}

// SetCertificate replaces the content of a file with a certificate and its key (PEM) in HAProxy's
// memory. It applies from the next handshake on; open connections stay.
func (c *Client) SetCertificate(ctx context.Context, path, text string) error {
	// An empty line would end the text (management guide, section 9.3).
	text = strings.TrimSpace(strings.ReplaceAll(text, "\n\n", "\n"))
	for _, step := range []struct{ command, shown, good string }{
		{"set ssl cert " + word(path) + " <<\n" + text + "\n", "set ssl cert", "ransaction"},
		{"commit ssl cert " + word(path), "commit ssl cert", "Success"},
	} {
		out, err := c.doAs(ctx, step.command, step.shown)
		if err != nil {
			return err
		}
		if !strings.Contains(out, step.good) {
			return fmt.Errorf("HAProxy at %s: %s: %s", c.socket, step.shown, strings.TrimSpace(out))
		}
	}
	return nil
}
