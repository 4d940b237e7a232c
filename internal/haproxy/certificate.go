package haproxy

import (
	"context"
	"fmt"
	"strings"
)

// Certificate is the serial number, in hexadecimal digits, of the certificate that HAProxy
// has read from a file ("show ssl cert").
func (c *Client) Certificate(ctx context.Context, path string) (serial string, err error) {
	out, err := c.do(ctx, "show ssl cert "+path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if value, is := strings.CutPrefix(strings.TrimSpace(line), "Serial:"); is {
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
		{"set ssl cert " + path + " <<\n" + text + "\n", "set ssl cert", "ransaction"},
		{"commit ssl cert " + path, "commit ssl cert", "Success"},
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
