package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// DefaultTimeout is how long one attempt to send spans may take.
const DefaultTimeout = 10 * time.Second

// Settings determine how spans are sent.
type Settings struct {
	// Headers are sent with each request, such as a token for the collector.
	Headers map[string]string
	// Compress is true if requests are to be compressed with gzip.
	Compress bool
	// Timeout is how long one attempt may take. 0 stands for DefaultTimeout.
	Timeout time.Duration
	// TLS are the settings for https. Nil stands for Go's defaults.
	TLS *tls.Config
}

// FromEnvironment returns the settings of OpenTelemetry's environment variables
// (https://opentelemetry.io/docs/specs/otel/protocol/exporter/). The variable
// OTEL_EXPORTER_OTLP_TRACES_X overrides OTEL_EXPORTER_OTLP_X. An error names the variable.
// It quotes no header, because that may be a secret.
func FromEnvironment(getenv func(string) string) (Settings, error) {
	get := func(name string) (variable, value string) {
		for _, variable = range []string{"OTEL_EXPORTER_OTLP_TRACES_" + name, "OTEL_EXPORTER_OTLP_" + name} {
			if value = strings.TrimSpace(getenv(variable)); value != "" {
				break
			}
		}
		return variable, value
	}
	var s Settings

	variable, value := get("HEADERS")
	headers, err := parseHeaders(value)
	if err != nil {
		return Settings{}, fmt.Errorf("%s: %w", variable, err)
	}
	s.Headers = headers

	switch variable, value := get("COMPRESSION"); value {
	case "", "none":
	case "gzip":
		s.Compress = true
	default:
		return Settings{}, fmt.Errorf("%s: %.40q: it has to be gzip or none", variable, value)
	}

	if variable, value := get("TIMEOUT"); value != "" {
		ms, err := strconv.ParseUint(value, 10, 31)
		if err != nil || ms == 0 {
			return Settings{}, fmt.Errorf("%s: %.40q: it has to be a number of milliseconds, such as 10000", variable, value)
		}
		s.Timeout = time.Duration(ms) * time.Millisecond
	}

	s.TLS, err = readTLS(get)
	return s, err
}

// parseHeaders parses name=value pairs that are separated by commas, with percent-encoded
// values.
func parseHeaders(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	headers := map[string]string{}
	for i, pair := range strings.Split(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		name = strings.TrimSpace(name)
		if !found || err != nil || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("header %d is not of the form name=value, with the value percent-encoded", i+1)
		}
		headers[name] = value
	}
	return headers, nil
}

// readTLS reads the files that the variables name: certificates to trust, and the
// client's own certificate and key. It returns nil if no variable is set.
func readTLS(get func(name string) (variable, value string)) (*tls.Config, error) {
	authorityVar, authority := get("CERTIFICATE")
	certificateVar, certificate := get("CLIENT_CERTIFICATE")
	keyVar, key := get("CLIENT_KEY")
	if (certificate == "") != (key == "") {
		return nil, fmt.Errorf("%s and %s belong together: give both or none", certificateVar, keyVar)
	}
	if authority == "" && certificate == "" {
		return nil, nil
	}

	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if authority != "" {
		pem, err := os.ReadFile(authority)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", authorityVar, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: there is no certificate (PEM) in %s", authorityVar, authority)
		}
	}
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", certificateVar, keyVar, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
