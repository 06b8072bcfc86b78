{{/* The release's name for objects: at most 63 letters. */}}
{{- define "lifeboat.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "lifeboat.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "lifeboat.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "lifeboat.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that pods are found by. They can't change in the life of a DaemonSet. */}}
{{- define "lifeboat.selector" -}}
app.kubernetes.io/name: {{ include "lifeboat.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent
{{- end -}}

{{- define "lifeboat.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "lifeboat.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "lifeboat.metricsName" -}}
{{ include "lifeboat.fullname" . | trunc 55 | trimSuffix "-" }}-metrics
{{- end -}}

{{/* What GKE wants to see before it admits pods of a system's class. */}}
{{- define "lifeboat.quota" -}}
{{- if and .root.Values.resourceQuota.create (has "gke" .root.Values.nodes.presets) (hasPrefix "system-" .class) }}
apiVersion: v1
kind: ResourceQuota
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- .labels | nindent 4 }}
spec:
  hard: {pods: 1G}
  scopeSelector:
    matchExpressions:
      - {scopeName: PriorityClass, operator: In, values: [{{ .class }}]}
{{- end }}
{{- end -}}

{{- define "lifeboat.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "lifeboat.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "lifeboat.fullname" .) }}
{{- else -}}
{{ required "serviceAccount.name: name the account that is there, or let serviceAccount.create make one" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* The name of things that have no namespace: two releases of one name may stand in two of them. */}}
{{- define "lifeboat.clusterName" -}}
{{ printf "%s-%s" .Release.Namespace (include "lifeboat.fullname" .) | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* A folder of the node that the agent is given: never all of the node's. */}}
{{- define "lifeboat.folder" -}}
{{- if or (not (regexMatch "^(/[A-Za-z0-9._-]+)+/?$" .folder)) (regexMatch "/[.]{1,2}(/|$)" .folder) -}}
{{- fail (printf "%s: %q is no folder of its own: set a full path, as /var/lib/lifeboat" .key .folder) -}}
{{- end -}}
{{ trimSuffix "/" .folder }}
{{- end -}}

{{- define "lifeboat.state" -}}
{{ include "lifeboat.folder" (dict "key" "config.state" "folder" (.Values.config.state | default "/var/lib/lifeboat")) }}
{{- end -}}

{{- define "lifeboat.stateVolume" -}}
{{- if .Values.state.volume -}}{{ .Values.state.volume }}
{{- else if eq (int .Values.securityContext.runAsUser) 0 -}}hostPath
{{- else -}}emptyDir
{{- end -}}
{{- end -}}

{{/* Where the state is mounted. In the pod it is the folder above: the agent makes its own in it, which belongs to its user. */}}
{{- define "lifeboat.stateMount" -}}
{{- $state := include "lifeboat.state" . -}}
{{- if eq (include "lifeboat.stateVolume" .) "hostPath" -}}{{ $state }}
{{- else if eq (dir $state) "/" -}}
{{- fail (printf "config.state: %q would put a volume over the whole file system of the pod: set a folder in a folder, as /var/lib/lifeboat" $state) -}}
{{- else -}}{{ dir $state }}
{{- end -}}
{{- end -}}

{{/* Where the pages are; [ ] suit addresses of IPv4 and IPv6. */}}
{{- define "lifeboat.listen" -}}
{{- if .Values.config.listen -}}
{{- fail "config.listen: set listen.address and listen.port, which the probes know too" -}}
{{- end -}}
{{- $address := .Values.listen.address | default (ternary "$(HOST_IP)" "127.0.0.1" .Values.metrics.enabled) -}}
[{{ $address }}]:{{ .Values.listen.port }}
{{- end -}}

{{/* Refuses a key that asks for what others could read, while nobody outside the node can read anything. */}}
{{- define "lifeboat.readable" -}}
{{- $address := .root.Values.listen.address -}}
{{- if not .root.Values.metrics.enabled -}}
{{- fail (printf "%s: nothing outside the node can read /metrics: set metrics.enabled too" .key) -}}
{{- else if regexMatch "^(localhost$|(::ffff:)?127[.]|[0:]+:0*1$)" $address -}}
{{- fail (printf "%s: nothing outside the node can read /metrics at %s: set listen.address to \"\", for the node's own address" .key $address) -}}
{{- end -}}
{{- end -}}

{{/* The address that the kubelet probes; none is the pod's own, which is the node's. */}}
{{- define "lifeboat.probeHost" -}}
{{- $address := .Values.listen.address | default (ternary "" "127.0.0.1" .Values.metrics.enabled) -}}
{{- if not (has $address (list "" "0.0.0.0" "::" "$(HOST_IP)")) -}}
host: {{ $address | quote }}
{{- end -}}
{{- end -}}

{{/* Whole seconds of a duration such as 1m30s, rounded up; one that is no duration fails. */}}
{{- define "lifeboat.seconds" -}}
{{- if not (regexMatch "^([0-9]+([.][0-9]+)?(h|m|s|ms|us|ns))+$|^0$" .) -}}
{{- fail (printf "%q is no duration: write it as 110s or 1m50s" .) -}}
{{- end -}}
{{- $unit := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 "us" 0.000001 "ns" 0.000000001 -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9.]+(h|ms|m|s|us|ns)" . -1 -}}
{{- $sum = addf $sum (mulf (float64 (regexFind "^[0-9.]+" .)) (get $unit (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- ceil $sum | int -}}
{{- end -}}

{{/* Time between SIGTERM and SIGKILL: the running rescue's, and 15 s to write its end down. */}}
{{- define "lifeboat.grace" -}}
{{- $grace := dig "shutdown" "grace" "110s" .Values.config -}}
{{- $least := add (include "lifeboat.seconds" $grace | int) 15 -}}
{{- $given := int .Values.terminationGracePeriodSeconds -}}
{{- if and $given (lt $given (int $least)) -}}
{{- fail (printf "terminationGracePeriodSeconds: %d cuts rescues off: set it to at least %d (config.shutdown.grace %s and 15 s), to 0, or config.shutdown.grace to less" $given $least $grace) -}}
{{- end -}}
{{- $given | default $least -}}
{{- end -}}

{{/* Hard links are made as the executor's user, which takes SETUID and SETGID. */}}
{{- define "lifeboat.capabilities" -}}
{{- $add := list "SYS_PTRACE" "DAC_READ_SEARCH" "KILL" -}}
{{- if eq "link" (dig "kubernetes" "volumes" "adopt" "link" .Values.config) -}}
{{- $add = concat $add (list "SETUID" "SETGID") -}}
{{- end -}}
{{- toYaml $add -}}
{{- end -}}
