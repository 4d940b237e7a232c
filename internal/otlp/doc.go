// Package otlp sends OpenTelemetry spans to a collector: OTLP over HTTP, in protobuf
// (https://opentelemetry.io/docs/specs/otlp/#otlphttp). It contains only the HTTP client
// (client.go) and its settings (settings.go). The library encodes the spans (otlptrace).
//
// The exporter of the library itself (otlptracehttp) is not used, because it depends on
// gRPC, which makes the compressed program larger by 400 KB.
package otlp
