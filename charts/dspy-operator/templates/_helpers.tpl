{{- define "dspy-operator.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "dspy-operator.serviceAccount" -}}
{{- default (include "dspy-operator.name" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "dspy-operator.selector" -}}
app.kubernetes.io/name: dspy-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dspy-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "dspy-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: dspy-operator
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The operator's image with its tag and, where one is given, its digest. */ -}}
{{- define "dspy-operator.image" -}}
{{- $image := .Values.image -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "dspy-operator.workerImage" -}}
{{- default (printf "ghcr.io/dspy-operator/dspy-worker:%s" .Chart.AppVersion) .Values.worker.image -}}
{{- end -}}

{{- /* What the operator may do where it serves apps: no wildcard, no Secret, no exec. */ -}}
{{- define "dspy-operator.rules" -}}
- apiGroups: [dspy-operator.io]
  resources: [dspyapps]
  verbs: [get, list, watch]
- apiGroups: [dspy-operator.io]
  resources: [dspyapps/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims, serviceaccounts, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [prometheusrules, servicemonitors]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
