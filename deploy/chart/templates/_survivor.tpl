{{- define "lifeboat.survivor.name" -}}
{{ include "lifeboat.fullname" . | trunc 54 | trimSuffix "-" }}-survivor
{{- end -}}

{{- define "lifeboat.survivor.clusterName" -}}
{{ include "lifeboat.clusterName" . | trunc 54 | trimSuffix "-" }}-survivor
{{- end -}}

{{- define "lifeboat.survivor.metricsName" -}}
{{ include "lifeboat.fullname" . | trunc 46 | trimSuffix "-" }}-survivor-metrics
{{- end -}}

{{- define "lifeboat.survivor.selector" -}}
app.kubernetes.io/name: {{ include "lifeboat.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: survivor
{{- end -}}

{{- define "lifeboat.survivor.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "lifeboat.survivor.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "lifeboat.survivor.serviceAccount" -}}
{{- if .Values.survivor.serviceAccount.create -}}
{{ .Values.survivor.serviceAccount.name | default (include "lifeboat.survivor.name" .) }}
{{- else -}}
{{ required "survivor.serviceAccount.name: name the account that is there, or let survivor.serviceAccount.create make one" .Values.survivor.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/*
Off the spot nodes of every preset, whichever of them the agent is on, and off those that nodes.selector names for any; its replicas on
different nodes, if there are some. A node of the agents has all labels of nodes.selector: one that lacks any of them will do.
*/}}
{{- define "lifeboat.survivor.affinity" -}}
{{- if .Values.survivor.affinity -}}
{{- toYaml .Values.survivor.affinity -}}
{{- else -}}
{{- $off := list -}}
{{- range include "lifeboat.presets" . | fromYaml -}}
{{- range .terms -}}{{- range .matchExpressions -}}
{{- $off = append $off (dict "key" .key "operator" "NotIn" "values" .values) -}}
{{- end -}}{{- end -}}
{{- end -}}
{{- $terms := list -}}
{{- if has "any" .Values.nodes.presets -}}
{{- range $key, $value := .Values.nodes.selector -}}
{{- $terms = append $terms (dict "matchExpressions" (append $off (dict "key" $key "operator" "NotIn" "values" (list $value)))) -}}
{{- end -}}
{{- end -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      {{- $terms | default (list (dict "matchExpressions" $off)) | toYaml | nindent 6 }}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "lifeboat.survivor.selector" . | nindent 12 }}
    - weight: 50
      podAffinityTerm:
        topologyKey: topology.kubernetes.io/zone
        labelSelector:
          matchLabels:
            {{- include "lifeboat.survivor.selector" . | nindent 12 }}
{{- end -}}
{{- end -}}
