// Package urlquery reads the parameters of a URL's query, and unescapes parts of a URL. It keeps the
// bytes as the client meant them, also where they are not UTF-8, and refuses bad escapes.
package urlquery
