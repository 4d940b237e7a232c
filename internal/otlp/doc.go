// Package otlp sends OpenTelemetry's spans to a collector: OTLP over HTTP, in protobuf
// (https://opentelemetry.io/docs/specs/otlp/#otlphttp). It has the HTTP alone; what a
// span looks like on the wire is the library's (otlptrace).
//
// The library has an exporter of its own (otlptracehttp). That one reaches gRPC, which
// makes the program larger by 400 KB, compressed.
package otlp
