{{- define "orginvite-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Short enough that the longest name made from it, with -check-uninstall, can be a label. */}}
{{- define "orginvite-operator.fullname" -}}
{{- $name := include "orginvite-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 46 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 46 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 46 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "orginvite-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "orginvite-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Of every pod of the release, those of the hooks among them. */}}
{{- define "orginvite-operator.podLabels" -}}
app.kubernetes.io/name: {{ include "orginvite-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "orginvite-operator.selectorLabels" -}}
{{ include "orginvite-operator.podLabels" . }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "orginvite-operator.labels" -}}
{{ include "orginvite-operator.podLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "orginvite-operator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}
