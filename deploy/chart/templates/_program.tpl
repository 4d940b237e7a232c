{{/* The environment of a program: (list $ NAME APP). */}}
{{- define "holdfast.environment" -}}
{{- $root := index . 0 -}}
{{- $app := index . 2 -}}
{{- $name := include "holdfast.name" $root -}}
{{- $known := dict "HOST" "0.0.0.0" "PORT" (toString (int ($app.port | default 8080))) "HOLDFAST_NODE" "\x00(HOLDFAST_NODE)" -}}
{{- $env := $app.env | default dict -}}
- {name: HOLDFAST_NODE, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
{{- if include "holdfast.redis" $root }}
{{- $_ := set $known "REDIS_URL" (printf "redis://app-%s:\x00(HOLDFAST_REDIS_PASSWORD)@%s-redis-master:%s/0" (index . 1) $name (include "holdfast.masterPort" $root)) }}
- {name: HOLDFAST_REDIS_PASSWORD, valueFrom: {secretKeyRef: {name: {{ $name }}-{{ index . 1 }}, key: password}}}
{{- end }}
{{- range list "HOST" "PORT" "REDIS_URL" }}
{{- if and (hasKey $known .) (not (hasKey $env .)) }}
- {name: {{ . }}, value: {{ include "holdfast.podText" (dict "text" (printf "$%s" .) "known" $known) }}}
{{- end }}
{{- end }}
{{- range $variable, $text := $env }}
{{- with regexFind `\$(REDIS_(SENTINELS|MASTER_NAME)\b|\{REDIS_(SENTINELS|MASTER_NAME)\})` (replace "$$" "" (toString $text)) }}
{{- if include "holdfast.redis" $root }}
{{- fail (printf "stack.apps.%s.env.%s: in Kubernetes a program has no %s, and does not reach the Sentinels: use $REDIS_URL, which always leads to the master (or write $$ for a $)" (index $ 1) $variable .) }}
{{- end }}
{{- end }}
- {name: {{ $variable }}, value: {{ include "holdfast.podText" (dict "text" $text "known" $known) }}}
{{- end }}
{{- end }}

{{/* How the kubelet asks a program whether it listens, or for its health: (list APP READY). */}}
{{- define "holdfast.handler" -}}
{{- $app := index . 0 -}}
{{- $health := $app.health | default dict -}}
{{- $path := $health.path | default "/" -}}
{{- if and (index . 1) (ne $path "none") (not (index $app "send-proxy")) -}}
httpGet: {path: {{ toJson $path }}, port: http, httpHeaders: [{name: Host, value: {{ $health.host | default "localhost" | toJson }}}]}
{{- else -}}
tcpSocket: {port: http}
{{- end -}}
{{- end }}

{{/* The pods of a program: (list $ SET). */}}
{{- define "holdfast.program" -}}
{{- $root := index . 0 -}}
{{- $set := index . 1 -}}
{{- $values := $set.values -}}
{{- $of := list $root $set.name -}}
{{- $app := get $root.Values.stack.apps $set.name -}}
{{- $health := $app.health | default dict -}}
metadata:
  labels:
    {{- include "holdfast.selector" $of | nindent 4 }}
    {{- with mergeOverwrite (deepCopy $root.Values.commonLabels) $root.Values.podLabels $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with mergeOverwrite (deepCopy $root.Values.commonAnnotations) $root.Values.podAnnotations $values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  # The program serves on (preStop) until the balancers, which find its pods by DNS, have left this one. Then it gets its
  # signal, and has its grace.
  terminationGracePeriodSeconds: {{ int $set.grace }}
  {{- include "holdfast.placement" (list $root $set) | trim | nindent 2 }}
  securityContext:
    # Without runAsUser the user is the image's, which has to be a number other than 0.
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  containers:
    - name: program
      image: {{ $app.image | quote }}
      {{- with $app.args }}
      args:
        {{- $known := dict "HOST" "0.0.0.0" "PORT" (toString (int $set.port)) "HOLDFAST_NODE" "\x00(HOLDFAST_NODE)" }}
        {{- range . }}
        - {{ include "holdfast.podText" (dict "text" . "known" $known) }}
        {{- end }}
      {{- end }}
      env:
        {{- include "holdfast.environment" (list $root $set.name $app) | nindent 8 }}
      {{- with $values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - {name: http, containerPort: {{ int $set.port }}}
      # Only a program that does not listen is started again: one that waits for Redis is not ready, and lives.
      startupProbe: { {{- include "holdfast.handler" (list $app false) }}, periodSeconds: 1, failureThreshold: {{ include "holdfast.seconds" ($health.start | default "0s") | int | max (int $values.startSeconds) }}}
      livenessProbe: { {{- include "holdfast.handler" (list $app false) }}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
      readinessProbe: { {{- include "holdfast.handler" (list $app true) }}, periodSeconds: {{ include "holdfast.seconds" ($health.interval | default "500ms") | int | max 1 }}, timeoutSeconds: {{ include "holdfast.seconds" (dig "check" "2s" ($root.Values.stack.timeouts | default dict)) | int | max 1 }}, failureThreshold: {{ int ($health.fall | default 2) }}}
      {{- with $set.linger }}
      lifecycle: {preStop: {sleep: {seconds: {{ int . }}}}}
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
  volumes:
    - {name: tmp, emptyDir: {}}
{{- end }}
