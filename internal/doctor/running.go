package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/plan"
)

// What runs and what should run: the supervisor, the nodes, and what was left unfinished.

func checkSupervisor(f *findings) {
	running := f.running()
	switch s := f.Supervisor; {
	case f.Unreadable != "":
		f.add(Error, "", "the state directory cannot be read: "+f.Unreadable, "what runs goes on, and 'up' refuses to start",
			"mend what it says; docs/operations.md, \"What to do when\", has the known cases")
		return
	case s.PID != 0 && s.Silent != "":
		f.add(Error, "", fmt.Sprintf("the supervisor (pid %d) does not answer: %s", s.PID, s.Silent),
			"nobody starts a node again that dies, and no command reaches the stack; what runs goes on",
			fmt.Sprintf("see 'holdfast logs supervisor'; then end it with kill %d, and 'holdfast up -d' adopts the nodes", s.PID))
	case s.PID != 0 || running == 0 && !f.Kept:
	case running > 0:
		f.add(Error, "", fmt.Sprintf("no supervisor runs, and %d of %d nodes do", running, len(f.Nodes)),
			"the service goes on, but nobody starts a node again that dies",
			"'holdfast up -d' adopts what runs; 'holdfast logs supervisor' shows how the last one ended")
	case slices.ContainsFunc(f.Nodes, func(n Node) bool { return n.Died }):
		f.add(Error, "", "the stack is down, and was not taken down: its nodes ended by themselves, or with the machine",
			"there is no service", "'holdfast up -d' brings it back with its data")
	default:
		f.add(Note, "", "the stack was taken down", "there is no service", "'holdfast up -d' brings it back with its data")
	}

	if !f.Kept && running == 0 && f.Supervisor.PID == 0 {
		f.add(Note, "", "the stack has never been up in "+f.StateDir, "there is nothing to look at but this machine",
			"'holdfast up -d' stands it up; is --state the directory that you mean?")
	}
	if f.Supervisor.Process != nil && f.Supervisor.Process.Stopped {
		f.add(Error, "", fmt.Sprintf("the supervisor (pid %d) is stopped by a signal", f.Supervisor.PID),
			"nobody starts a node again that dies, and commands wait", fmt.Sprintf("kill -CONT %d", f.Supervisor.PID))
	}
	if f.Open != "" {
		f.add(Error, "", f.Open, "others could choose what Holdfast runs: 'up' refuses such a directory", "take the right to write from them, as it says")
	}
}

func checkNodes(f *findings) {
	if f.running() == 0 {
		return // the finding about the supervisor covers it
	}

	for _, n := range f.Nodes {
		switch {
		case n.Stray:
			f.add(Warning, n.Name, fmt.Sprintf("%s still runs (pid %d), and the stack file does not have it any more", n.Name, n.Process.PID),
				"'up' ends such a node when it adopts the others, but not one that is the Redis master",
				"put it back into the stack file, or make another node the master ('holdfast switchover') and then 'holdfast down' and 'holdfast up -d'")
		case n.State == "failed" && n.Kind.Traits().Optional && n.Process == nil:
			f.add(Warning, n.Name, fmt.Sprintf("%s does not run: %s", n.Name, n.Detail), f.consequencesOf(n), fmt.Sprintf("mend what it says; 'holdfast start %s' tries it at once", n.Name))
		case n.State == "failed":
			f.add(Error, n.Name, fmt.Sprintf("%s keeps dying: %s", n.Name, n.Detail), f.consequencesOf(n),
				fmt.Sprintf("'holdfast logs %[1]s' has its last words. It is tried again by itself; 'holdfast start %[1]s' does it at once", n.Name))
		case n.Process == nil && n.Want == "down":
			f.add(Warning, n.Name, n.Name+" is down: its operator stopped it"+f.ago(n.Since), f.consequencesOf(n), fmt.Sprintf("'holdfast start %s'", n.Name))
		case n.Process == nil:
			why := ""
			if n.Detail != "" {
				why = ": " + n.Detail
			}
			f.add(Error, n.Name, fmt.Sprintf("%s does not run%s", n.Name, why), f.consequencesOf(n),
				fmt.Sprintf("'holdfast logs %[1]s' and 'holdfast logs supervisor' show why; 'holdfast start %[1]s' tries it now", n.Name))
		case n.Process.Stopped: // see checkPaused
		case n.Silent != "":
			f.add(Error, n.Name, fmt.Sprintf("%s runs (pid %d) and does not answer: %s", n.Name, n.Process.PID, n.Silent), f.consequencesOf(n),
				fmt.Sprintf("'holdfast logs %[1]s'; 'holdfast restart %[1]s' if it stays so", n.Name))
		case n.State != "up" && n.State != "" && f.Supervisor.PID != 0 && f.Supervisor.Silent == "":
			f.add(Warning, n.Name, fmt.Sprintf("%s is %s%s: %s", n.Name, n.State, f.ago(n.Since), n.Detail), f.consequencesOf(n),
				fmt.Sprintf("wait for it; 'holdfast status --watch' shows how it goes on, 'holdfast logs %s' what it does", n.Name))
		}
	}

	for _, u := range f.Supervisor.Unserved {
		f.add(Error, u.Balancer, fmt.Sprintf("%s has no server for the application %s: %s", u.Balancer, u.App, u.Why),
			"requests for it get 503 there", fmt.Sprintf("see why the nodes of %[1]s do not answer their health checks: 'holdfast logs %[1]s'", u.App))
	}
}

// consequencesOf returns the consequences of a missing node.
func (f *findings) consequencesOf(n Node) string {
	others := 0
	for _, o := range f.Nodes {
		if o.Name != n.Name && o.Kind == n.Kind && o.App == n.App && o.Process != nil && !o.Process.Stopped && o.Silent == "" {
			others++
		}
	}
	switch {
	case n.Kind == plan.Redis && others == 0:
		return "no redis node is left: there is no data and no service"
	case n.Kind == plan.Redis && others < 2 && f.Stack.Redis.Replicas > 0:
		return "no replica can acknowledge a write: writes wait and get 503"
	case n.Kind == plan.Redis:
		return fmt.Sprintf("%d redis nodes are left; the next fault may stop writes", others)
	case n.Kind == plan.Sentinel && others <= f.Stack.Redis.Sentinels/2:
		return "no majority of the Sentinels is left: a master that dies is not replaced"
	case n.Kind == plan.Sentinel:
		return fmt.Sprintf("%d of %d Sentinels are left, and %d are needed for a failover", others, f.Stack.Redis.Sentinels, f.Stack.Redis.Sentinels/2+1)
	case n.Kind == plan.Keepalived && others == 0:
		return "no host has the virtual address"
	case n.Kind == plan.Keepalived:
		return fmt.Sprintf("%s can have the virtual address", plural(others, "other host"))
	case others == 0 && n.Kind == plan.Balancer:
		return "clients reach nobody"
	case others == 0:
		return "the application " + n.App + " gets no requests: clients get 503"
	case others == 1:
		return "one other is left: when that dies, too, there is no service"
	}
	return fmt.Sprintf("%d others go on", others)
}

// ago returns how long ago a time was, or "" for the zero time.
func (f *findings) ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " " + roughly(f.Now.Sub(t)) + " ago"
}

// roughly returns a duration for a person.
func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return plural(int(d/(24*time.Hour)), "day")
	case d >= 2*time.Hour:
		return plural(int(d/time.Hour), "hour")
	case d >= 2*time.Minute:
		return plural(int(d/time.Minute), "minute")
	}
	return plural(int(d/time.Second), "second")
}

func checkPaused(f *findings) {
	for _, n := range f.Nodes {
		if n.Process == nil || !n.Process.Stopped {
			continue
		}
		level, who := Warning, "a signal from elsewhere"
		switch {
		case f.Drill.Running:
			level, who = Note, "perhaps the drill that is under way"
		case n.Want == "paused":
			who = "its operator ('holdfast pause')"
		}
		do := fmt.Sprintf("'holdfast resume %s'", n.Name)
		if f.Supervisor.PID == 0 {
			do = fmt.Sprintf("kill -CONT -- -%d", n.Process.PID)
		}
		f.add(level, n.Name, fmt.Sprintf("%s (pid %d) is stopped by %s (SIGSTOP)", n.Name, n.Process.PID, who),
			"it answers nobody; "+f.consequencesOf(n), do)
	}
}

// A node counts as one that dies again and again if it has crashed at least this often and its
// process is younger than this. Restarts that somebody asked for do not count.
const (
	manyCrashes = 3
	recentStart = 10 * time.Minute
)

func checkRestarts(f *findings) {
	for _, n := range f.Nodes {
		if n.Process == nil || n.Crashes < manyCrashes || n.Process.Age == 0 || n.Process.Age > recentStart {
			continue
		}
		f.add(Warning, n.Name, fmt.Sprintf("%s has ended by itself %s with its present settings; its process was started %s ago", n.Name, plural(n.Crashes, "time"), roughly(n.Process.Age)),
			"it ends again and again, or somebody ends it",
			fmt.Sprintf("'holdfast logs supervisor' shows how it ended each time, 'holdfast logs %s' its own words", n.Name))
	}
}

func checkDrill(f *findings) {
	d := f.Drill
	switch {
	case d.Damaged != "":
		f.add(Error, "", "what a drill left to undo cannot be read: "+d.Damaged, "something may still be broken on purpose: rules of the network, stopped processes",
			"look at it, undo by hand what it names, and remove the file")
	case d.Running:
		f.add(Note, "", "a drill is under way", "it breaks things on purpose, and undoes them: other findings may be its doing", "run 'holdfast doctor' again when it has ended")
	case len(d.Left) > 0:
		f.add(Error, "", fmt.Sprintf("a drill that was killed left %s: %s", plural(len(d.Left), "thing"), firstOf(d.Left)),
			"what it broke on purpose is still broken", "'holdfast drill undo'")
	case len(d.Keys) > 0:
		f.add(Note, "", "a drill left keys in Redis: "+firstOf(d.Keys), "they are in nobody's way but take memory", "'holdfast drill undo'")
	}
}

func checkChanges(f *findings) {
	for _, c := range f.Changes {
		if c.Running {
			f.add(Note, "", "a change is under way: "+c.What, "other findings may be its doing", "run 'holdfast doctor' again when it has ended")
			continue
		}
		if c.Stopped != "" {
			what := "the last change was stopped before its end: " + c.What + f.ago(c.Since) + ": " + c.Stopped
			if len(c.Left) == 0 {
				f.add(Note, "", what, "the stack is what it was before that change", "mend the cause, and try again")
				continue
			}
			f.add(Warning, "", what, firstOf(c.Left)+": as that change wanted it, unlike the rest of the stack", "mend the cause in the stack file, or take the change out of it, and then 'holdfast apply'")
			continue
		}
		f.add(Warning, "", "a change was begun and has not ended: "+c.What+f.ago(c.Since), "a part of the stack is as before it, another as after it",
			"'holdfast up -d' takes it up again; 'holdfast logs supervisor' shows why it ended")
	}
	if f.Rewriting {
		f.add(Warning, "", "a supervisor ended while it wrote the Sentinels' files anew", "some of these files have former addresses",
			"'holdfast up -d' writes them again before it starts a Sentinel")
	}
}

func checkPorts(f *findings) {
	for _, n := range f.Nodes {
		if n.Holder != "" {
			f.add(Error, n.Name, fmt.Sprintf("the address %s of %s is held by %s", n.Address, n.Name, n.Holder), "the node cannot start",
				fmt.Sprintf("end that process, or give %s another port in the stack file", n.Name))
		}
	}
	for _, p := range f.Ports {
		f.add(Error, "", fmt.Sprintf("the address %s, for %s, is held by %s", p.Address, p.For, p.Holder), "what needs it cannot start",
			"end that process, or give another port in the stack file")
	}
}

// firstOf returns the first of several texts.
func firstOf(all []string) string {
	const shown = 5
	if len(all) <= shown {
		return strings.Join(all, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(all[:shown], "; "), len(all)-shown)
}
