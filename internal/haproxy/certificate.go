package haproxy

import (
	"context"
	"fmt"
	"strings"
)

// Fingerprints are the SHA-1 fingerprints of the certificates that a list of them names (a
// crt-list), by their paths and in the order of the list: those that HAProxy shows.
func (c *Client) Fingerprints(ctx context.Context, list string) (paths, prints []string, err error) {
	out, err := c.do(ctx, "show ssl crt-list "+word(list))
	if err != nil {
		return nil, nil, err
	}
	first, rest, _ := strings.Cut(strings.TrimSpace(out), "\n")
	if first != "# "+list {
		return nil, nil, fmt.Errorf("HAProxy at %s: no list %s is known: %s", c.socket, list, first)
	}
	for line := range strings.Lines(rest) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		print, err := c.ofCertificate(ctx, line, "SHA1 FingerPrint:")
		if err != nil {
			return nil, nil, err
		}
		paths, prints = append(paths, line), append(prints, print)
	}
	return paths, prints, nil
}

// word is a path as one word of a command.
func word(path string) string {
	return strings.NewReplacer(`\`, `\\`, " ", `\ `, ";", `\;`).Replace(path)
}

// Certificate is the serial number, in hexadecimal digits, of the certificate that HAProxy
// has read from a file ("show ssl cert").
func (c *Client) Certificate(ctx context.Context, path string) (serial string, err error) {
	return c.ofCertificate(ctx, path, "Serial:")
}

// ofCertificate is a line of what HAProxy tells of a certificate.
func (c *Client) ofCertificate(ctx context.Context, path, name string) (string, error) {
	out, err := c.do(ctx, "show ssl cert "+word(path))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if value, is := strings.CutPrefix(strings.TrimSpace(line), name); is {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("HAProxy at %s: no certificate is known from %s: %s", c.socket, path, strings.TrimSpace(out))
}

// SetCertificate has HAProxy go by another text of a file with a certificate and its key
// (PEM), from the next handshake on. Connections that are open stay.
func (c *Client) SetCertificate(ctx context.Context, path, text string) error {
	// An empty line ends the text (management guide, section 9.3).
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
