package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// sentinelFile is what a Sentinel has recorded about the master, in lines of its sentinel.conf
// (rewriteConfigSentinelOption in sentinel.c, Redis 7.0).
type sentinelFile struct {
	// Address is the master's. Once a replica is promoted, it is the replica's.
	Address string
	// The epochs are those of plan.Replication.
	ConfigEpoch, LeaderEpoch, CurrentEpoch int64
}

const sentinelConf = "sentinel.conf"

// parseSentinelFile reads a sentinel.conf that watches one master.
func parseSentinelFile(content string) (sentinelFile, error) {
	var f sentinelFile
	lines := bufio.NewScanner(strings.NewReader(content))
	for lines.Scan() {
		word := strings.Fields(lines.Text())
		if len(word) < 3 || word[0] != "sentinel" {
			continue
		}
		var err error
		switch {
		case word[1] == "monitor" && len(word) == 6:
			f.Address = net.JoinHostPort(word[3], word[4])
		case word[1] == "config-epoch" && len(word) == 4:
			f.ConfigEpoch, err = strconv.ParseInt(word[3], 10, 64)
		case word[1] == "leader-epoch" && len(word) == 4:
			f.LeaderEpoch, err = strconv.ParseInt(word[3], 10, 64)
		case word[1] == "current-epoch":
			f.CurrentEpoch, err = strconv.ParseInt(word[2], 10, 64)
		}
		if err != nil {
			return sentinelFile{}, fmt.Errorf("the line %q: %w", lines.Text(), err)
		}
	}
	if err := lines.Err(); err != nil {
		return sentinelFile{}, err
	}
	if f.Address == "" {
		return sentinelFile{}, errors.New("no line says which master it watches")
	}
	return f, nil
}

// sentinelFiles returns what the Sentinels have recorded, by node, including Sentinels that are
// no longer in the stack file. It skips files that cannot be read, as after a full disk.
func (h hosts) sentinelFiles(ctx context.Context) (map[string]sentinelFile, error) {
	files := map[string]sentinelFile{}
	for _, host := range h.all() {
		names, err := host.sentinelPaths(ctx)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			b, err := host.Read(ctx, name)
			if err != nil {
				continue
			}
			if f, err := parseSentinelFile(string(b)); err == nil {
				files[nodeOf(name)] = f
			}
		}
	}
	return files, nil
}

// sentinelPaths returns the names of the Sentinels' files.
func (h home) sentinelPaths(ctx context.Context) ([]string, error) {
	return h.Glob(ctx, inHome("sentinel-*", sentinelConf))
}
