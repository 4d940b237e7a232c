package drill

import (
	"context"
	"slices"

	"holdfast/internal/history"
)

// fault is one way to break a stack.
type fault struct {
	name string
	// about is a sentence for "drill --list".
	about string
	// hosts: it needs hosts of its own (network namespaces), and with them a
	// stack that the drill stands up for itself. disk: likewise a disk of its
	// own below the redis nodes, a program file on each host that can be replaced, and
	// clocks that can be set on each host.
	hosts, disk, programs, clocks bool
	// double: two things break at once, or one after the other before the
	// first is mended. What is promised of single faults may not hold.
	double bool
	// course: it is a part of the standard course.
	course bool
	// hangs: what it strikes takes requests and answers none, until the balancers
	// miss it.
	hangs bool
	// ready says why this application refuses what the fault needs of it; nil: it
	// does not. It is asked before anything is broken, and may be nil.
	ready func(ctx context.Context, s *scene) error
	// pods: it strikes a stack in Kubernetes, and needs these rights there, as 'kubectl auth
	// can-i' calls them. Other faults strike none.
	pods   bool
	rights []string
	// command is that of the user's own fault, for a shell.
	command string
	// needs is what the stack has to have for it.
	needs   need
	promise history.Promise
	// strike breaks things and leaves them broken for as long as it likes. What
	// is to be undone afterwards it adds to the scene before it does harm; the
	// drill undoes it when strike has returned. It tells the scene the moment
	// of each blow, and how it is known that it fell. Its error says that the
	// fault could not be brought about.
	strike func(ctx context.Context, s *scene) error
}

// faults are all of them, in the order in which the course runs them.
var faults = []fault{
	killWeb, killReplica, killSentinel, killBalancer, killSupervisor, killMaster,
	pauseWeb, pauseReplica, pauseSentinel, pauseBalancer, pauseSupervisor, pauseMaster,
	restartWeb, restartReplica, restartSentinel, restartBalancer, restartSupervisor, restartMaster, switchover,
	scale, reloadBalancer, rollout, badRollout, apply,
	slowLink, lossyLink,
	backupUnderLoad,
	slowCommand, busyScript, busyWritingScript, hugeAnswer, hostileClient,
	killSentinels, killHeld, killHeldMaster, killStalled, killLone, killRedis, killWebs, killMasterTwice,
	killMasterAndSentinel, killMasterPauseSentinel, killMasterAndSupervisor,
	switchoverKillSentinel, switchoverKillSupervisor,
	scaleKillSupervisor, rolloutKillSupervisor, rolloutKillNode, rolloutKillMaster, applyKillSupervisor, applyKillMaster,
	applyRedis, applyRedisKillSupervisor, applyRedisKillMaster,
	backupKillSupervisor, backupKillMaster,
	cutMasterPort, cutHost, cutMaster, cutMasterHost, cutHalves, cutOneWay, cutOtherWay, flap, loseHost, loseMasterHost, loseSupervisorHost, killKeepalived, loseAddress, fullDisk,
	upgradeHost, clockAhead, clockBehind, masterClockAhead, masterClockBehind,

	deleteWeb, deleteBalancer, deleteSentinel, deleteReplica, deleteMaster,
	killMasterPod, evictMaster, forceDeleteWeb, forceDeleteBalancer, forceDeleteMaster,
	drainNode, roll, loseVolume, loseMasterVolume, scaleZero, deleteAll,
}

// Fault is what a person may know of a fault.
type Fault struct {
	Name   string `json:"name"`
	About  string `json:"about"`
	Hosts  bool   `json:"hosts"`
	Disk   bool   `json:"disk"`
	Double bool   `json:"double"`
	Course bool   `json:"course"`
	// Kubernetes: it strikes a stack in Kubernetes, and no other.
	Kubernetes bool `json:"kubernetes"`
}

// List answers every fault.
func List() []Fault {
	var all []Fault
	for _, f := range faults {
		all = append(all, Fault{f.name, f.about, f.hosts, f.disk, f.double, f.course, f.pods})
	}
	return all
}

// find is the fault of that name, in Kubernetes or elsewhere: kill-master is one of both.
func find(name string, inPods bool) (fault, bool) {
	i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name && f.pods == inPods })
	if i < 0 {
		i = slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
	}
	if i < 0 {
		return fault{}, false
	}
	return faults[i], true
}
