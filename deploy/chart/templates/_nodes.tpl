{{/* What each preset knows: terms of which one must fit, and taints of such nodes. */}}
{{- define "lifeboat.presets" -}}
eks:
  terms:
    - matchExpressions: [{key: eks.amazonaws.com/capacityType, operator: In, values: [SPOT]}]
  taints: []
gke:
  terms:
    - matchExpressions: [{key: cloud.google.com/gke-spot, operator: In, values: ["true"]}]
    - matchExpressions: [{key: cloud.google.com/gke-provisioning, operator: In, values: [spot, preemptible]}]
    - matchExpressions: [{key: cloud.google.com/gke-preemptible, operator: In, values: ["true"]}]
  taints: [cloud.google.com/gke-spot, cloud.google.com/gke-provisioning, cloud.google.com/gke-preemptible]
aks:
  terms:
    - matchExpressions: [{key: kubernetes.azure.com/scalesetpriority, operator: In, values: [spot]}]
  taints: [kubernetes.azure.com/scalesetpriority]
karpenter:
  terms:
    - matchExpressions: [{key: karpenter.sh/capacity-type, operator: In, values: [spot]}]
  taints: [karpenter.sh/capacity-type]
{{- end -}}

{{- define "lifeboat.affinity" -}}
{{- $terms := list -}}
{{- $presets := include "lifeboat.presets" . | fromYaml -}}
{{- range .Values.nodes.presets -}}
{{- if ne . "any" -}}
{{- $terms = concat $terms (get $presets .).terms -}}
{{- end -}}
{{- end -}}
{{- if .Values.nodes.affinity -}}
{{- toYaml .Values.nodes.affinity -}}
{{- else if and $terms (not (has "any" .Values.nodes.presets)) -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      {{- toYaml $terms | nindent 6 }}
{{- end -}}
{{- end -}}

{{/* Taints that must neither keep the agent away nor send it away: our own, those of drains and of nodes in trouble. */}}
{{- define "lifeboat.tolerations" -}}
{{- if .Values.nodes.tolerateAll -}}
- operator: Exists
{{- else -}}
{{- $presets := include "lifeboat.presets" . | fromYaml -}}
{{- $keys := list "lifeboat.dev/rescue" "node.kubernetes.io/unschedulable" "node.kubernetes.io/not-ready"
  "node.kubernetes.io/unreachable" "node.kubernetes.io/network-unavailable" "node.kubernetes.io/disk-pressure"
  "node.kubernetes.io/memory-pressure" "node.kubernetes.io/pid-pressure" "node.kubernetes.io/out-of-service"
  "node.cloudprovider.kubernetes.io/shutdown" "ToBeDeletedByClusterAutoscaler" "DeletionCandidateOfClusterAutoscaler"
  "karpenter.sh/disrupted" "karpenter.sh/disruption" "cloud.google.com/impending-node-termination"
  "aws-node-termination-handler/spot-itn" "aws-node-termination-handler/asg-lifecycle-termination"
  "aws-node-termination-handler/scheduled-maintenance" "aws-node-termination-handler/rebalance-recommendation"
  "remediator.kubernetes.azure.com/unschedulable" "aks-node-termination-handler/preempt" -}}
{{- range .Values.nodes.presets -}}
{{- if ne . "any" -}}
{{- $keys = concat $keys (get $presets .).taints -}}
{{- end -}}
{{- end -}}
{{- range $keys | uniq }}
- {key: {{ . }}, operator: Exists}
{{- end -}}
{{- end -}}
{{- with .Values.nodes.tolerations }}
{{ toYaml . }}
{{- end -}}
{{- end -}}
