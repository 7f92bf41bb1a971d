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

{{- /* The helm test's pod: not the operator's name, or the Service would send requests to it. */ -}}
{{- define "dspy-operator.testSelector" -}}
app.kubernetes.io/name: dspy-operator-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* What stands beside the selector. commonLabels win over what this chart says by itself. */ -}}
{{- define "dspy-operator.commonLabels" -}}
{{- $standard := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_")
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/part-of" "dspy-operator"
-}}
{{- $common := omit (default dict .Values.commonLabels) "app.kubernetes.io/name" "app.kubernetes.io/instance" -}}
{{ merge (dict) $common $standard | toYaml }}
{{- end -}}

{{- define "dspy-operator.labels" -}}
{{ include "dspy-operator.selector" . }}
{{ include "dspy-operator.commonLabels" . }}
{{- end -}}

{{- /* The labels of a monitor or rule, of which there are own ones and those that all share. */ -}}
{{- define "dspy-operator.monitorLabels" -}}
{{- $labels := include "dspy-operator.labels" .root | fromYaml -}}
{{ merge (dict) (default dict .own) (default dict .root.Values.monitoring.labels) $labels | toYaml }}
{{- end -}}

{{- /* A map as k=v,k=v, sorted by key. */ -}}
{{- define "dspy-operator.pairs" -}}
{{- $pairs := list -}}
{{- range $key, $value := . -}}
{{- $pairs = append $pairs (printf "%s=%s" $key $value) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}

{{- /* A name of an image with the wanted registry in place of its own, if it names one. */ -}}
{{- define "dspy-operator.inRegistry" -}}
{{- if .registry -}}
{{ trimSuffix "/" .registry }}/{{ regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" .name "" }}
{{- else -}}
{{ .name }}
{{- end -}}
{{- end -}}

{{- /* The operator's image with its tag and, where one is given, its digest. */ -}}
{{- define "dspy-operator.image" -}}
{{- $image := .Values.image -}}
{{- include "dspy-operator.inRegistry" (dict "registry" .Values.imageRegistry "name" $image.repository) -}}
:{{ default .Chart.AppVersion $image.tag }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "dspy-operator.workerImage" -}}
{{- $name := default (printf "ghcr.io/dspy-operator/dspy-worker:%s" .Chart.AppVersion) .Values.worker.image -}}
{{- include "dspy-operator.inRegistry" (dict "registry" .Values.imageRegistry "name" $name) -}}
{{- end -}}

{{- /* What every pod of this chart is: nobody in particular, with nothing to gain. */ -}}
{{- define "dspy-operator.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "dspy-operator.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* What the operator may do where it serves apps: no wildcard, no Secret, no exec. */ -}}
{{- define "dspy-operator.rules" -}}
{{- $optional := .Values.rbac.optionalApis -}}
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
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if $optional.gateway }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- if $optional.monitoring }}
- apiGroups: [monitoring.coreos.com]
  resources: [prometheusrules, servicemonitors]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- if $optional.keda }}
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- end -}}
