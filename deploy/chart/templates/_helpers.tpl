{{/* The stack's name, which the names of all objects begin with. */}}
{{- define "holdfast.name" -}}
{{- $name := .Values.stack.name | default .Release.Name -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$" $name) -}}
{{- fail (printf "The stack is called %q, after the release. A name has at most 32 lower-case letters, digits and dashes, and begins with a letter: set stack.name." $name) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{/* The stack file. */}}
{{- define "holdfast.stack" -}}
{{- toYaml (set (deepCopy .Values.stack) "name" (include "holdfast.name" .)) }}
{{ end }}

{{- define "holdfast.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "holdfast.secret" -}}
{{ .Values.secret.existing | default (include "holdfast.name" .) }}
{{- end }}

{{/* What pods are found by. Call it with (list $ COMPONENT); "" is all of the stack. */}}
{{- define "holdfast.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* The name, labels and annotations of an object: (list $ NAME COMPONENT LABELS ANNOTATIONS). */}}
{{- define "holdfast.metadata" -}}
{{- $root := index . 0 -}}
{{- $suffix := index . 1 -}}
name: {{ include "holdfast.name" $root }}{{ if $suffix }}-{{ $suffix }}{{ end }}
namespace: {{ $root.Release.Namespace }}
labels:
  helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
  app.kubernetes.io/managed-by: {{ $root.Release.Service }}
  {{- if $root.Chart.AppVersion }}
  app.kubernetes.io/version: {{ $root.Chart.AppVersion | replace "+" "_" | trunc 63 | quote }}
  {{- end }}
  {{- include "holdfast.selector" (list $root (index . 2)) | nindent 2 }}
  {{- with mergeOverwrite (deepCopy $root.Values.commonLabels) (index . 3) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with mergeOverwrite (deepCopy $root.Values.commonAnnotations) (index . 4) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A duration of the stack file, such as 1m30s, in whole seconds. */}}
{{- define "holdfast.seconds" -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9.]+(h|ms|m|s)" . -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $each := get (dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001) $unit -}}
{{- $sum = addf $sum (mulf (trimSuffix $unit . | float64) $each) -}}
{{- end -}}
{{- ceil $sum | int -}}
{{- end }}

{{/* A size of the stack file, such as 512mb, in bytes. Helm reads a number without a unit as a float. */}}
{{- define "holdfast.bytes" -}}
{{- $text := kindIs "float64" . | ternary (toString (int64 .)) (toString .) | lower -}}
{{- $bytes := regexFind "^[0-9]+" $text | int64 -}}
{{- $unit := get (dict "kb" 1024 "mb" 1048576 "gb" 1073741824) (regexFind "[a-z]+$" $text) | default 1 | int64 -}}
{{- mul $bytes $unit -}}
{{- end }}

{{/* The names of the applications that run in pods, as JSON. */}}
{{- define "holdfast.apps" -}}
{{- $names := list -}}
{{- range $name, $app := .Values.stack.apps | default (dict "web" (dict "kv" dict)) -}}
{{- if or (hasKey $app "kv") (hasKey $app "image") }}{{ $names = append $names $name }}{{ end -}}
{{- end -}}
{{- sortAlpha $names | toJson -}}
{{- end }}

{{/* Those that are images of the user's own. */}}
{{- define "holdfast.programs" -}}
{{- $names := list -}}
{{- range $name, $app := .Values.stack.apps | default dict -}}
{{- if hasKey $app "image" }}{{ $names = append $names $name }}{{ end -}}
{{- end -}}
{{- sortAlpha $names | toJson -}}
{{- end }}

{{/* Whether the stack has Redis: "true", or nothing. */}}
{{- define "holdfast.redis" -}}
{{- $redis := .Values.stack.redis | default dict -}}
{{- if ternary $redis.enabled (include "holdfast.apps" . | fromJsonArray) (kindIs "bool" $redis.enabled) }}true{{ end -}}
{{- end }}

{{/* The port at which the balancers lead to the Redis master. */}}
{{- define "holdfast.masterPort" -}}
{{- (.Values.stack.redis | default dict | dig "master-port" 6378) | int -}}
{{- end }}

{{/* Fails where two things in a balancer's pod have the same port. */}}
{{- define "holdfast.checkPorts" -}}
{{- $entry := splitList ":" .Values.stack.entry.listen | last | int -}}
{{- $master := ternary (include "holdfast.masterPort" . | int) 0 (eq (include "holdfast.redis" .) "true") -}}
{{- range $port, $use := dict "6300" "where a pod reports its state" "9633" "where a pod has its metrics" -}}
{{- if eq $entry (int $port) }}{{ fail (printf "stack.entry.listen: in Kubernetes the port %s is %s: choose another" $port $use) }}{{ end -}}
{{- if eq $master (int $port) }}{{ fail (printf "stack.redis.master-port: in Kubernetes the port %s is %s: choose another" $port $use) }}{{ end -}}
{{- end -}}
{{- if eq $entry $master -}}
{{- fail (printf "stack.entry.listen, stack.redis.master-port: both are the port %d of a balancer's pod, which is the default of redis.master-port in Kubernetes: choose another for one of them" $entry) -}}
{{- end -}}
{{- end }}

{{/* A digest of what Holdfast's own pods take from the stack file. A new version of a program is no part of it. */}}
{{- define "holdfast.digest" -}}
{{- $root := deepCopy (dict "Values" (dict "stack" .Values.stack) "Release" (dict "Name" .Release.Name)) -}}
{{- range $root.Values.stack.apps }}
{{- if hasKey . "image" }}{{ $_ := set (unset (unset . "args") "env") "image" "image" }}{{ end -}}
{{- end -}}
{{- include "holdfast.stack" $root | sha256sum | trunc 16 -}}
{{- end }}

{{/*
A text of the stack file for the environment or the arguments of a program, in which Kubernetes replaces $(NAME) itself,
and $$ by a single $: (dict "text" TEXT "known" VALUES). Dollars of VALUES that stay are written as \x00.
*/}}
{{- define "holdfast.podText" -}}
{{- $text := .text -}}
{{- /* Helm reads numbers as floats. */ -}}
{{- if kindIs "float64" $text }}{{ if eq (float64 (int64 $text)) $text }}{{ $text = int64 $text }}{{ end }}{{ end -}}
{{- $text = replace "$$" "\x01" (toString $text) -}}
{{- range $name, $value := .known -}}
{{- $text = regexReplaceAllLiteral (printf `\$(%[1]s\b|\{%[1]s\})` $name) $text $value -}}
{{- end -}}
{{- $text | replace "$" "$$" | replace "\x01" "$$" | replace "\x00" "$" | toJson -}}
{{- end }}

{{/* The application to which the entry leads by default. */}}
{{- define "holdfast.defaultApp" -}}
{{- $stack := .Values.stack -}}
{{- if $stack.routes -}}
{{- range $stack.routes }}{{ if eq (len (without (keys .) "app" "strip-prefix")) 0 }}{{ .app }}{{ end }}{{ end -}}
{{- else -}}
{{- keys ($stack.apps | default (dict "web" dict)) | first -}}
{{- end -}}
{{- end }}

{{/* Whether that is a kv: "true", or nothing. */}}
{{- define "holdfast.defaultKV" -}}
{{- if or (not .Values.stack.apps) (hasKey (get .Values.stack.apps (include "holdfast.defaultApp" .) | default dict) "kv") }}true{{ end -}}
{{- end }}

{{/*
The kinds of pods, as JSON: the Sentinels, Redis, the web nodes of each application, the balancers. Their
numbers, ports and times are those of 'holdfast export kubernetes'.
*/}}
{{- define "holdfast.sets" -}}
{{- $stack := .Values.stack -}}
{{- $apps := include "holdfast.apps" . | fromJsonArray -}}
{{- $declared := $stack.apps | default (dict "web" (dict "kv" dict)) -}}
{{- $redis := $stack.redis | default dict -}}
{{- $hasRedis := include "holdfast.redis" . -}}
{{- $figures := ne (toString ((($stack.metrics | default dict).enabled))) "false" -}}
{{- $metrics := ternary (list (dict "name" "metrics" "port" 9633)) list $figures -}}
{{- $sets := list -}}
{{- if $hasRedis -}}
{{- $sets = append $sets (dict "name" "sentinel" "portName" "sentinel" "port" 26379 "metrics" $metrics
      "count" (dig "sentinels" 3 $redis) "keeps" true "grace" 40 "values" .Values.sentinel) -}}
{{- $values := deepCopy .Values.redis -}}
{{- if not $values.resources -}}
{{- $resources := dict "requests" (dict "cpu" "50m" "memory" "128Mi") -}}
{{- with $redis.memory -}}
{{- $bytes := include "holdfast.bytes" . | int64 -}}
{{- $resources = dict
      "requests" (dict "cpu" "50m" "memory" (printf "%dMi" (add 64 (div (div (mul $bytes 3) 2) 1048576))))
      "limits" (dict "memory" (printf "%dMi" (add 320 (div (mul $bytes 2) 1048576)))) -}}
{{- end -}}
{{- $values = set $values "resources" $resources -}}
{{- end -}}
{{- $sets = append $sets (dict "name" "redis" "portName" "redis" "port" 6379 "metrics" $metrics
      "programs" (include "holdfast.programs" . | fromJsonArray)
      "count" (add1 (dig "replicas" 2 $redis)) "keeps" true "grace" 50 "values" $values
      "settle" (include "holdfast.seconds" (printf "%[1]s%[1]s1s" (dig "failover-timeout" "2s" $redis)) | int)) -}}
{{- end -}}
{{- /* How long a balancer's pod waits: as long as a request or an application's end may take. */ -}}
{{- $longest := include "holdfast.seconds" (dig "server" "60s" ($stack.timeouts | default dict)) | int | max 5 -}}
{{- range $apps -}}
{{- $name := . -}}
{{- $app := get $declared . -}}
{{- $program := hasKey $app "image" -}}
{{- $own := deepCopy (get $.Values.apps . | default dict) -}}
{{- if $program -}}
{{- if and $hasRedis (ne (toString $stack.network) "trusted") -}}
{{- fail (printf "stack.apps.%s.image: a program has no certificate of the stack, so it reaches Redis in plain: set stack.network to trusted if the cluster's network is, or stack.redis.enabled to false if no application needs Redis" .) -}}
{{- end -}}
{{- if semverCompare "<1.30.0-0" $.Capabilities.KubeVersion.Version -}}
{{- fail (printf "stack.apps.%s.image: this cluster has Kubernetes %s, and a program's pod takes 1.30: older ones cannot let it serve on before it ends (preStop.sleep)" . $.Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- else -}}
{{- range $key := keys (omit $.Values.program "resources" "lingerSeconds" "autoscaling" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "podAnnotations" "podLabels") -}}
{{- if hasKey $own $key }}{{ fail (printf "apps.%s.%s is for applications with an image: remove it" $name $key) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $values := mergeOverwrite (ternary $.Values.program $.Values.web $program | deepCopy) $own -}}
{{- $grace := include "holdfast.seconds" ($app.grace | default "10s") | int -}}
{{- $longest = max $longest $grace -}}
{{- $ports := $metrics -}}
{{- if $program }}{{ $ports = list }}{{ end -}}
{{- $kv := kindIs "map" $app.kv | ternary $app.kv dict -}}
{{- if not $program -}}
{{- $longest = max $longest (include "holdfast.seconds" (printf "%s5s" (dig "hold" "5s" $kv)) | int) -}}
{{- end -}}
{{- if and (not $program) (ne (toString (dig "admin" true $kv)) "false") -}}
{{- $ports = append $ports (dict "name" "web-metrics" "port" 5002) -}}
{{- end -}}
{{- $sets = append $sets (dict "name" . "portName" "http" "port" (ternary ($app.port | default 8080) 5001 $program) "metrics" $ports
      "program" $program "count" (dig "nodes" 2 $app) "keeps" false "scales" $values.autoscaling.enabled
      "linger" $values.lingerSeconds "grace" (add $grace $values.lingerSeconds 5) "values" $values) -}}
{{- end -}}
{{- range $declared -}}
{{- $longest = max $longest (include "holdfast.seconds" ((.timeouts | default dict).server | default "0s") | int) -}}
{{- end -}}
{{- $port := splitList ":" $stack.entry.listen | last | int -}}
{{- include "holdfast.checkPorts" . -}}
{{- $sets = append $sets (dict "name" "balancer" "portName" "http" "port" $port "metrics" $metrics
      "count" (dig "balancers" 2 $stack) "keeps" false
      "linger" .Values.balancer.lingerSeconds "grace" (add $longest .Values.balancer.lingerSeconds 5) "values" .Values.balancer) -}}
{{- $sets | toJson -}}
{{- end }}

{{/* Where the pods of one kind would be rather: (list $ COMPONENT). */}}
{{- define "holdfast.affinity" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "holdfast.selector" . | nindent 12 }}
{{- end }}

{{- define "holdfast.spread" -}}
{{- $of := . -}}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "holdfast.selector" $of | nindent 6 }}
{{- end }}
{{- end }}

{{/* What the pods of a kind are pulled with, and where they go: (list $ SET). */}}
{{- define "holdfast.placement" -}}
{{- $root := index . 0 -}}
{{- $set := index . 1 -}}
{{- $values := $set.values -}}
{{- $of := list $root $set.name -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName | default $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector | default $root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations | default $root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- with $values.topologySpreadConstraints | default $root.Values.topologySpreadConstraints }}
  {{- toYaml . | nindent 2 }}
  {{- else }}
  {{- include "holdfast.spread" $of | trim | nindent 2 }}
  {{- end }}
affinity:
  {{- with $values.affinity | default $root.Values.affinity }}
  {{- toYaml . | nindent 2 }}
  {{- else }}
  {{- include "holdfast.affinity" $of | nindent 2 }}
  {{- end }}
{{- end }}

{{/* The pods of one kind: (list $ SET). */}}
{{- define "holdfast.pods" -}}
{{- $root := index . 0 -}}
{{- $set := index . 1 -}}
{{- $values := $set.values -}}
{{- $of := list $root $set.name -}}
{{- $name := include "holdfast.name" $root -}}
metadata:
  labels:
    {{- include "holdfast.selector" $of | nindent 4 }}
    {{- with mergeOverwrite (deepCopy $root.Values.commonLabels) $root.Values.podLabels $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Another stack file is another pod{{ if ne (include "holdfast.programs" $root) "[]" }}, except for the image, args and env of a program{{ end }}.
    holdfast/stack-file: {{ include "holdfast.digest" $root | quote }}
    {{- with mergeOverwrite (deepCopy $root.Values.commonAnnotations) $root.Values.podAnnotations $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  # There is no preStop hook: on SIGTERM the first process itself hands over what the node has to hand over
  # (the master's part to a replica), serves on for --linger, and then ends the node.
  terminationGracePeriodSeconds: {{ int $set.grace }}
  {{- include "holdfast.placement" (list $root $set) | trim | nindent 2 }}
  securityContext:
    {{- toYaml $root.Values.podSecurityContext | nindent 4 }}
  containers:
    - name: holdfast
      image: {{ include "holdfast.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args:
        - pod
        - --file=/etc/holdfast/stack/holdfast.yaml
        - --seed=/etc/holdfast/secrets/seed
        - --state=/var/lib/holdfast/{{ $name }}
        - --log-format=json
        {{- with $set.linger }}
        - --linger={{ int . }}s
        {{- end }}
        {{- if $set.programs }}
        - --programs=/etc/holdfast/programs
        {{- end }}
      env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
      ports:
        - {name: {{ $set.portName }}, containerPort: {{ int $set.port }}}
        - {name: pod, containerPort: 6300}
        {{- range $set.metrics }}
        - {name: {{ .name }}, containerPort: {{ int .port }}}
        {{- end }}
      # The process of the pod lives, whatever the others and the data do.
      startupProbe: {httpGet: {path: /live, port: pod}, periodSeconds: 1, failureThreshold: 60}
      livenessProbe: {httpGet: {path: /live, port: pod}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
      readinessProbe: {httpGet: {path: /ready, port: pod}, periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 2}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        {{- toYaml $root.Values.securityContext | nindent 8 }}
      volumeMounts:
        - {name: state, mountPath: /var/lib/holdfast}
        - {name: stack, mountPath: /etc/holdfast/stack, readOnly: true}
        - {name: secrets, mountPath: /etc/holdfast/secrets, readOnly: true}
        {{- if $set.programs }}
        - {name: programs, mountPath: /etc/holdfast/programs, readOnly: true}
        {{- end }}
  volumes:
    - {name: stack, configMap: {name: {{ $name }}}}
    - {name: secrets, secret: {secretName: {{ include "holdfast.secret" $root }}, defaultMode: 0440}}
    {{- if $set.programs }}
    # Without its Secret a program is refused by Redis, which serves all others.
    - name: programs
      projected:
        defaultMode: 0440
        sources:
          {{- range $set.programs }}
          - secret: {name: {{ $name }}-{{ . }}, optional: true, items: [{key: password, path: {{ . }}}]}
          {{- end }}
    {{- end }}
    {{- if not $set.keeps }}
    - {name: state, emptyDir: {}}
    {{- end }}
{{- end }}
