// Package docs has what the program writes of the documentation's files.
package docs

import _ "embed"

// Dashboard is Grafana's dashboard, as JSON.
//
//go:embed grafana.json
var Dashboard string
