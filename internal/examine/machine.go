package examine

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/doctor"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// machine records the state of the machine. On a system without /proc, memory and kernel settings
// are unseen.
func (e *examination) machine() {
	m := &e.facts.Machine
	// The directory may not exist yet. Then its disk is that of the nearest existing parent.
	at := e.StateDir
	for at != filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil {
			break
		}
		at = filepath.Dir(at)
	}

	var fs unix.Statfs_t
	if err := unix.Statfs(at, &fs); err != nil {
		e.unseen("the disk of "+at, err.Error())
	} else {
		block := uint64(fs.Bsize)
		m.DiskFree, m.DiskSize = uint64(fs.Bavail)*block, uint64(fs.Blocks)*block
		m.InodesFree, m.Inodes = uint64(fs.Ffree), uint64(fs.Files)
	}
	memory, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		e.unseen("memory and the kernel's settings", "this system has no /proc")
		return
	}
	for line := range strings.Lines(string(memory)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kilobytes, _ := strconv.ParseUint(f[1], 10, 64)
		switch f[0] {
		case "MemTotal:":
			m.Memory = kilobytes << 10
		case "MemAvailable:":
			m.MemoryAvailable = kilobytes << 10
		}
	}

	m.Overcommit = setting("/proc/sys/vm/overcommit_memory")
	m.Backlog, _ = strconv.Atoi(setting("/proc/sys/net/core/somaxconn"))
	// Such as "always [madvise] never".
	if _, rest, found := strings.Cut(setting("/sys/kernel/mm/transparent_hugepage/enabled"), "["); found {
		m.HugePages, _, _ = strings.Cut(rest, "]")
	}
}

// setting returns the value of a kernel setting; empty: there is no such setting.
func setting(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

// maxCertificate is the largest file, in bytes, that is searched for a certificate.
const maxCertificate = 1 << 20

// certificates looks for certificates among the files that the stack file passes to programs, in
// their arguments and in their environment.
func (e *examination) certificates() {
	seen := map[string]bool{}
	for _, p := range e.processes() {
		if p.Kind != plan.Web {
			continue
		}
		base := p.Dir
		if base == "" {
			base = filepath.Join(e.StateDir, "nodes", p.Node)
		}
		words := append([]string{}, p.Args...)
		for _, variable := range p.Env {
			_, value, _ := strings.Cut(variable, "=")
			words = append(words, value)
		}
		for _, word := range words {
			if _, value, found := strings.Cut(word, "="); found && strings.HasPrefix(word, "-") {
				word = value
			}
			path := plan.Resolve(base, word)
			if word == "" || seen[path] {
				continue
			}
			seen[path] = true
			if c, is := certificate(path); is {
				c.For = "the application " + p.App
				e.facts.Certificates = append(e.facts.Certificates, c)
			}
		}
	}
}

// certificate reads a certificate, and reports whether the file has one. Of a chain, the one that
// ends first counts.
func certificate(path string) (c doctor.Certificate, is bool) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxCertificate {
		return c, false
	}
	data, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(data, []byte("-----BEGIN CERTIFICATE-----")) {
		return c, false
	}
	c.Path = path
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		parsed, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			c.Broken = err.Error()
			return c, true
		}
		if c.Ends.IsZero() || parsed.NotAfter.Before(c.Ends) {
			c.Ends, c.Subject = parsed.NotAfter, parsed.Subject.String()
		}
	}
	if c.Ends.IsZero() {
		c.Broken = "it is damaged"
	}
	return c, true
}

// backup records the state of the backups.
func (e *examination) backup() {
	known, err := supervise.LastBackup(e.StateDir)
	if err != nil {
		e.unseen("the backups", err.Error())
		return
	}
	if known.Last == nil && known.Failure == nil {
		return
	}
	b := &doctor.Backup{Next: known.Next}
	if known.Last != nil {
		b.Last = known.Last.Begun.Add(time.Duration(known.Last.Seconds * float64(time.Second)))
	}
	if known.Failure != nil {
		b.Failed, b.Why = known.Failure.At, known.Failure.Error
	}
	e.facts.Backup = b
}
