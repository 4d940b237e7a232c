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
	// hosts: the fault needs a stack that the drill stands up itself, on hosts of its own (network
	// namespaces). disk, programs and clocks need such a stack, too: with a disk for each redis
	// node, with a program file on each host that can be replaced, or with a clock on each host
	// that can be set.
	hosts, disk, programs, clocks bool
	// double: two things break at once, or the second before the first is mended. What is promised
	// of single faults may not hold.
	double bool
	// course: the fault is part of the standard course.
	course bool
	// hangs: the node that the fault strikes accepts requests and does not answer them, until the
	// balancers notice.
	hangs bool
	// ready returns why the application refuses what the fault needs; nil: it allows it. The drill
	// calls it before anything is broken. The field itself may be nil.
	ready func(ctx context.Context, fc *faultContext) error
	// pods: the fault strikes a stack in Kubernetes, and only there. rights are the rights that it
	// needs there, in the words of 'kubectl auth can-i'.
	pods   bool
	rights []string
	// command is the shell command of a user's own fault.
	command string
	// needs is what the stack must have for the fault.
	needs   need
	promise history.Promise
	// inject breaks things and leaves them broken for as long as the fault lasts. Before it does
	// harm, it adds the undoing step to the context; the drill carries it out when inject has
	// returned. It records each injection in the context, and the evidence that it happened. Its
	// error says why the fault could not be brought about.
	inject func(ctx context.Context, fc *faultContext) error
}

// faults lists all faults in the order in which the standard course runs them.
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

// Fault describes a fault to the user; see 'holdfast drill --list'.
type Fault struct {
	Name   string `json:"name"`
	About  string `json:"about"`
	Hosts  bool   `json:"hosts"`
	Disk   bool   `json:"disk"`
	Double bool   `json:"double"`
	Course bool   `json:"course"`
	// Kubernetes: the fault strikes a stack in Kubernetes, and only there.
	Kubernetes bool `json:"kubernetes"`
}

// List returns every fault.
func List() []Fault {
	var all []Fault
	for _, f := range faults {
		all = append(all, Fault{f.name, f.about, f.hosts, f.disk, f.double, f.course, f.pods})
	}
	return all
}

// findFault returns the fault of that name. Some names, such as kill-master, exist twice: for
// Kubernetes and for other stacks. inPods chooses; if there is only one fault of the name, find
// returns it anyway.
func findFault(name string, inPods bool) (fault, bool) {
	i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name && f.pods == inPods })
	if i < 0 {
		i = slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
	}
	if i < 0 {
		return fault{}, false
	}
	return faults[i], true
}
