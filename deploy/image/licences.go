package main

import (
	"regexp"
	"slices"
	"strings"
)

// noAssertion is SPDX's value for something unknown.
const noAssertion = "NOASSERTION"

// goLicences are the licences of Go modules, with words by which their texts are recognized.
// The first match counts.
var goLicences = []struct{ id, words string }{
	{"Apache-2.0", "Apache License Version 2.0"},
	{"MPL-2.0", "Mozilla Public License Version 2.0"},
	{"MPL-2.0", "Mozilla Public License, version 2.0"},
	{"BSD-3-Clause", "Neither the name"},
	{"BSD-2-Clause", "Redistribution and use in source and binary forms"},
	{"ISC", "Permission to use, copy, modify, and/or distribute this software"},
	{"MIT", "Permission is hereby granted, free of charge"},
	{"Unlicense", "This is free and unencumbered software"},
}

// goLicence returns the SPDX identifier of a licence, given by its text, or noAssertion.
func goLicence(text string) string {
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	for _, l := range goLicences {
		if strings.Contains(text, strings.ToLower(l.words)) {
			return l.id
		}
	}
	return noAssertion
}

// debianLicences has SPDX's identifiers by Debian's short names in lower case
// (https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/#license-specification).
var debianLicences = map[string]string{
	"agpl-3": "AGPL-3.0-only", "apache-2.0": "Apache-2.0", "artistic": "Artistic-1.0-Perl", "artistic-2": "Artistic-2.0",
	"bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "bsd-4-clause": "BSD-4-Clause", "bsd-4-clause-uc": "BSD-4-Clause-UC",
	"bsl-1.0": "BSL-1.0", "bzip2": "bzip2-1.0.6", "cc0-1.0": "CC0-1.0", "expat": "MIT", "mit": "MIT", "isc": "ISC", "zlib": "Zlib",
	"gpl-1": "GPL-1.0-only", "gpl-1+": "GPL-1.0-or-later", "gpl-2": "GPL-2.0-only", "gpl-2+": "GPL-2.0-or-later",
	"gpl-3": "GPL-3.0-only", "gpl-3+": "GPL-3.0-or-later",
	"lgpl-2": "LGPL-2.0-only", "lgpl-2+": "LGPL-2.0-or-later", "lgpl-2.1": "LGPL-2.1-only", "lgpl-2.1+": "LGPL-2.1-or-later",
	"lgpl-3": "LGPL-3.0-only", "lgpl-3+": "LGPL-3.0-or-later", "mpl-1.1": "MPL-1.1", "mpl-2.0": "MPL-2.0", "openssl": "OpenSSL",
}

var (
	notInIdentifier = regexp.MustCompile(`[^A-Za-z0-9.-]+`)
	alternatives    = regexp.MustCompile(`\s+(?:or|and/or)\s+`)
	conjunctions    = regexp.MustCompile(`(?:,?\s+and\s+|,\s+)`)
)

// debianLicence returns the licences of a package as an SPDX expression, from its copyright
// file. If that file is not in the machine-readable format, it returns noAssertion. Names that
// SPDX does not know become LicenseRef-…, and are also returned in others.
func debianLicence(copyright string) (expression string, others []string) {
	if !strings.HasPrefix(strings.TrimSpace(copyright), "Format:") {
		return noAssertion, nil
	}

	var all []string
	for line := range strings.Lines(copyright) {
		name, found := strings.CutPrefix(line, "License:")
		if !found {
			continue
		}
		if name = strings.ToLower(strings.TrimSpace(name)); name == "" {
			name = "copyright-file" // the file has the text of the licence, but not its name
		}

		for _, part := range conjunctions.Split(name, -1) {
			var choice []string
			for _, one := range alternatives.Split(part, -1) {
				// An exception ("with …") is left out; the copyright file has it.
				one, _, _ = strings.Cut(one, " with ")
				one = strings.Trim(one, " ,()")
				id, known := debianLicences[strings.TrimSuffix(one, ".0")]
				if !known {
					if id, known = debianLicences[strings.Replace(one, ".0+", "+", 1)]; !known {
						id = debianLicences[one]
					}
				}
				if id == "" {
					id = "LicenseRef-Debian-" + strings.Trim(notInIdentifier.ReplaceAllString(one, "-"), "-.")
					others = append(others, id)
				}
				choice = append(choice, id)
			}

			if len(choice) > 1 {
				all = append(all, "("+strings.Join(choice, " OR ")+")")
			} else {
				all = append(all, choice[0])
			}
		}
	}

	if len(all) == 0 {
		return noAssertion, nil
	}
	slices.Sort(all)
	slices.Sort(others)
	return strings.Join(slices.Compact(all), " AND "), slices.Compact(others)
}
