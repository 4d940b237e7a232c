package doctor

import (
	"fmt"
	"time"

	"holdfast/internal/plan"
)

// The machine: disk, memory, the kernel's settings, limits and clocks.

// endsSoon is how long before its end doctor warns of a certificate.
const endsSoon = 21 * 24 * time.Hour

// leastFree is the free space of the disk, in bytes, below which 'up' refuses to start. littleOf is
// the share of disk, inodes and memory, in percent, below which there is little left.
const (
	leastFree = 64 << 20
	littleOf  = 5
)

func checkDisk(f *findings) {
	m := f.Machine
	if m.DiskSize == 0 {
		return
	}
	data := uint64(0) // space for rewriting each append-only file once
	for _, n := range f.Nodes {
		if n.Redis != nil {
			data += uint64(n.Redis.number("aof_current_size"))
		}
	}
	values := fmt.Sprintf("%s of %s MB are free on the disk of %s", megabytes(int64(m.DiskFree)), megabytes(int64(m.DiskSize)), f.StateDir)
	const do = "make room; old logs are in its logs/, copies of damaged files in nodes/redis-N/data"
	switch {
	case m.DiskFree < leastFree:
		f.add(Error, "", values, "Redis refuses writes when it cannot write its file; 'up' starts nothing", do)
	case m.DiskFree < data:
		f.add(Warning, "", fmt.Sprintf("%s, and the append-only files have %s MB", values, megabytes(int64(data))), "there is no room for compacting them all at once: the disk may become full", do)
	case m.DiskFree*100 < m.DiskSize*littleOf:
		f.add(Warning, "", values, "when it is full, Redis refuses writes", do)
	}
	if m.Inodes > 0 && m.InodesFree*100 < m.Inodes*littleOf {
		f.add(Warning, "", fmt.Sprintf("%d of %d inodes are free on the disk of %s", m.InodesFree, m.Inodes, f.StateDir), "when there are none, no file can be made: Redis refuses writes", "remove small files; they need not be Holdfast's")
	}
}

func checkMemory(f *findings) {
	m := f.Machine
	if m.Memory == 0 {
		return
	}
	if m.MemoryAvailable*100 < m.Memory*2*littleOf {
		f.add(Warning, "", fmt.Sprintf("%s of %s MB of memory are available", megabytes(int64(m.MemoryAvailable)), megabytes(int64(m.Memory))),
			"the kernel may kill the process that has most, which is often Redis", "see what takes it; lower redis.memory, or add memory")
	}
	limits, used := uint64(0), uint64(0)
	for _, n := range f.Nodes {
		if n.Redis != nil {
			limits += uint64(n.Redis.number("maxmemory"))
			used += uint64(n.Redis.number("used_memory"))
		}
	}
	if limits > m.Memory {
		f.add(Warning, "", fmt.Sprintf("the redis nodes may take %s MB together (redis.memory), and the machine has %s MB", megabytes(int64(limits)), megabytes(int64(m.Memory))),
			"the kernel may kill one before it refuses a write", "lower redis.memory, or add memory")
	}
	// A fork for a snapshot or a rewrite needs as much memory as Redis has, unless the kernel may
	// promise more than there is.
	if m.Overcommit != "" && m.Overcommit != "1" {
		level, means := Note, "a snapshot or a rewrite of the append-only file may fail when Redis has about half of the memory"
		if used > m.MemoryAvailable {
			level, means = Warning, "a snapshot or a rewrite of the append-only file fails (\"Cannot allocate memory\")"
		}
		f.add(level, "", fmt.Sprintf("vm.overcommit_memory is %s, and Redis advises 1", m.Overcommit), means, "sysctl vm.overcommit_memory=1, and the same in /etc/sysctl.d")
	}
}

// leastBacklog is the tcp-backlog of package plan's redis nodes. A balancer may have as many
// connections waiting as it may have connections at all.
const leastBacklog = 1024

func checkKernel(f *findings) {
	m := f.Machine
	if m.Backlog > 0 && m.Backlog < leastBacklog {
		f.add(Note, "", fmt.Sprintf("net.core.somaxconn is %d", m.Backlog), "when many clients come at once, as after a failover, some connections take a second longer",
			fmt.Sprintf("sysctl net.core.somaxconn=%d, and the same in /etc/sysctl.d", 4*leastBacklog))
	}
	for _, n := range f.Nodes {
		if n.Kind == plan.Redis && n.Process != nil && n.Process.HugePages && m.HugePages == "always" {
			f.add(Note, n.Name, "transparent huge pages are on for "+n.Name, "a snapshot or a rewrite takes more memory, and answers take longer meanwhile",
				"echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, and 'holdfast restart "+n.Name+"'")
		}
	}
}

func checkLimits(f *findings) {
	for _, n := range f.Nodes {
		p := n.Process
		if p == nil || p.MaxFiles == 0 {
			continue
		}
		if p.OpenFiles*100 >= p.MaxFiles*80 {
			f.add(Warning, n.Name, fmt.Sprintf("%s has %d of %d open files", n.Name, p.OpenFiles, p.MaxFiles), "beyond that it takes no connection and opens no file", "raise the limit (ulimit -n; systemd: LimitNOFILE), and restart it")
			continue
		}
		if needs := n.Kind.Traits().OpenFiles; p.MaxFiles < needs {
			f.add(Note, n.Name, fmt.Sprintf("%s may have %d open files, and %d would be good", n.Name, p.MaxFiles, needs), "it takes fewer clients at once", "raise the limit (ulimit -n; systemd: LimitNOFILE) where 'up' is run")
		}
	}
}

// The differences of clocks between hosts, and the jumps of one clock, that matter.
const (
	clocksDiffer = time.Second
	// clocksTurnDown is half of the 20 s after which a web node turns down a write that a balancer
	// got. The other half is left for the time that the write has really waited.
	clocksTurnDown = 10 * time.Second
	clockJump      = 5 * time.Second
)

func checkClocks(f *findings) {
	for _, n := range f.Nodes {
		if n.Redis == nil {
			continue
		}
		if ahead := n.Redis.Ahead; ahead.Abs() > clocksDiffer {
			kind, why := Warning, "times to live and the age of repeated writes are judged by different clocks: keys expire early or late when another node becomes the master"
			if ahead.Abs() > clocksTurnDown {
				kind, why = Error, why+", and web nodes turn down the writes (504) of a balancer whose host's clock is behind theirs"
			}
			f.add(kind, n.Name, fmt.Sprintf("the clock of %s differs by %v from this machine's", n.Name, ahead.Round(time.Millisecond)),
				why, "let every host keep its clock by NTP (timedatectl set-ntp true)")
		}
		if n.Process == nil || n.Process.Age == 0 || n.Redis.Info["uptime_in_seconds"] == "" {
			continue
		}
		// Redis counts its uptime by the wall clock, and the kernel by a clock that cannot be set.
		jump := time.Duration(n.Redis.number("uptime_in_seconds"))*time.Second - n.Process.Age
		if jump.Abs() > max(clockJump, n.Process.Age/1000) {
			f.add(Warning, n.Name, fmt.Sprintf("the clock was set by %v since %s was started", jump.Round(time.Second), n.Name),
				"a jump puts Sentinels into TILT mode, and ends keys with a time to live early or late", "let NTP slew the clock, and set it at boot alone")
			return // all nodes of the host see the same jump
		}
	}
}

// oldBackup is the age from which a backup made on demand is old.
const oldBackup = 7 * 24 * time.Hour

// lateBackup is how late a scheduled backup may be, because it takes some time.
const lateBackup = time.Hour

func checkBackup(f *findings) {
	b := f.Backup
	if b == nil {
		return
	}
	if !b.Failed.IsZero() && b.Failed.After(b.Last) {
		f.add(Error, "", fmt.Sprintf("the last backup%s failed: %s", f.ago(b.Failed), b.Why), "what was written since the last good one"+f.since(b.Last)+" has no copy", "mend the cause, then 'holdfast backup'")
	}
	switch age := f.Now.Sub(b.Last); {
	case !b.Next.IsZero() && f.Now.Sub(b.Next) > lateBackup && f.Supervisor.PID != 0:
		f.add(Warning, "", "the backup that was due"+f.ago(b.Next)+" has not been made", "what was written since the last one"+f.since(b.Last)+" has no copy",
			"'holdfast logs supervisor' shows why; 'holdfast backup' makes one now")
	case !b.Last.IsZero() && b.Next.IsZero() && age > oldBackup:
		f.add(Warning, "", fmt.Sprintf("the last good backup is %s old", roughly(age)), "what was written since has no copy", "'holdfast backup'")
	}
}

func (f *findings) since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " (" + t.Format("2006-01-02 15:04") + ")"
}
