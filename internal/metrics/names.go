package metrics

import "github.com/prometheus/client_golang/prometheus"

// metric is the name, the kind and the meaning of a metric.
type metric struct {
	name, help string
	kind       prometheus.ValueType
}

func gauge(name, help string) metric { return metric{name, help, prometheus.GaugeValue} }

func counter(name, help string) metric { return metric{name, help, prometheus.CounterValue} }

// What a supervisor tells. The balancers' are in balancer.go.
var (
	stackInfo       = gauge("holdfast_stack_info", "1, with the name of the stack and the version of its supervisor.")
	stackReady      = gauge("holdfast_stack_ready", "1 when clients get their answers: a balancer is up, each application has a node that every balancer sends requests to, and Redis a master with a replica.")
	supervisorPhase = gauge("holdfast_supervisor_phase", "1 for what the supervisor is about: starting, running or stopping.")
	appServed       = gauge("holdfast_app_served", "1 when the balancer has a server for the application; at 0 its requests get 503 there.")

	nodeUp         = gauge("holdfast_node_up", "1 when the node is up: it runs and is ready.")
	nodeState      = gauge("holdfast_node_state", "1 for the state that the node is in: starting, up, paused, draining, down or failed.")
	nodeRole       = gauge("holdfast_node_role", "1 for the part that a redis node plays in the replication: master or replica.")
	nodeRestarts   = counter("holdfast_node_restarts_total", "Starts of the node beyond the first since the stack came up.")
	nodeCrashes    = counter("holdfast_node_crashes_total", "Ends of the node that neither an operator nor a change of the stack asked for, since it has its settings.")
	nodeSince      = gauge("holdfast_node_state_since_seconds", "When the node entered its state, in seconds since 1970; 0: nobody knows.")
	nodeInRotation = gauge("holdfast_node_in_rotation", "1 when the application's node is up and every balancer sends it requests.")
	nodeCPU        = counter("holdfast_node_cpu_seconds_total", "Processor time of the node's processes.")
	nodeMemory     = gauge("holdfast_node_resident_memory_bytes", "Resident memory of the node's processes.")
	nodeFiles      = gauge("holdfast_node_open_files", "Open files of the node's process that has most.")
	nodeMaxFiles   = gauge("holdfast_node_max_files", "How many files that process may have open.")

	virtualHolder  = gauge("holdfast_virtual_address_held", "1 when the node's host has the virtual address.")
	virtualHolders = gauge("holdfast_virtual_address_holders", "How many hosts have the virtual address: one, if all is well.")

	certificateEnds    = gauge("holdfast_certificate_expiry_timestamp_seconds", "When the certificate that an entry shows ends, in seconds since 1970.")
	certificateRefused = gauge("holdfast_certificate_refused", "1 when what the file of the certificate has now is refused, and the one before is shown.")

	generation     = gauge("holdfast_generation", "How many changes the stack has had.")
	changeRuns     = gauge("holdfast_change_running", "1 while a change of the stack is under way.")
	changeStopped  = gauge("holdfast_change_stopped", "1 when the last change was stopped before its end.")
	failovers      = counter("holdfast_failovers_total", "Changes of the Redis master that nobody asked for, since the supervisor was started.")
	switchovers    = counter("holdfast_switchovers_total", "Switchovers since the supervisor was started, by their result: done, failed or refused.")
	switchoverRuns = gauge("holdfast_switchover_running", "1 while a switchover is under way.")

	inSync = gauge("holdfast_web_in_sync_replicas", "Replicas that must have a write of the web node before it is acknowledged; none before its first write.")

	redisAnswers    = gauge("holdfast_redis_answers", "1 when the redis node or Sentinel answered in time.")
	redisReplicas   = gauge("holdfast_redis_linked_replicas", "Replicas whose connection to the master is up, by their own word.")
	redisLinked     = gauge("holdfast_redis_link_up", "1 when the replica's connection to its master is up.")
	redisLagBytes   = gauge("holdfast_redis_lag_bytes", "How much the replica lacks of what the master has.")
	redisLagSeconds = gauge("holdfast_redis_lag_seconds", "How long ago the master heard from the replica.")
	redisMemory     = gauge("holdfast_redis_memory_bytes", "Memory that Redis uses (used_memory).")
	redisMaxMemory  = gauge("holdfast_redis_max_memory_bytes", "The limit of that (maxmemory); 0: none.")
	redisClients    = gauge("holdfast_redis_clients", "Clients of the redis node.")
	redisCommands   = counter("holdfast_redis_commands_total", "Commands that the redis node has carried out.")
	redisEvicted    = counter("holdfast_redis_evicted_keys_total", "Keys that the redis node has dropped to make room.")
	redisAOF        = gauge("holdfast_redis_append_only_file_ok", "1 when the append-only file is on and could be written the last time.")
	redisSnapshot   = gauge("holdfast_redis_snapshot_ok", "1 when the last snapshot could be written.")
	sentinelEpoch   = gauge("holdfast_sentinel_config_epoch", "Configuration epoch that the Sentinel has of the master; each failover has a higher one.")
	sentinelsAgree  = gauge("holdfast_sentinels_agree", "1 when a majority of the Sentinels answers and all that answer name the same master.")

	backupLast   = gauge("holdfast_backup_last_success_seconds", "When the last good backup was made, in seconds since 1970; 0: never.")
	backupTook   = gauge("holdfast_backup_last_duration_seconds", "How long the last good backup took.")
	backupBytes  = gauge("holdfast_backup_last_bytes", "Size of the last good backup.")
	backupNext   = gauge("holdfast_backup_next_seconds", "When the next backup is due, in seconds since 1970; 0: there is no schedule.")
	backupFailed = gauge("holdfast_backup_last_failed", "1 when the last try to make a backup failed.")
)
