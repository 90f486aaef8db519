{{- define "orginvite-operator.scheduling" -}}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A Job that runs the image once: a dict of root, component, serviceAccountName and args. */}}
{{- define "orginvite-operator.jobSpec" -}}
{{- $root := .root -}}
backoffLimit: 0
activeDeadlineSeconds: 240
template:
  metadata:
    labels:
      {{- include "orginvite-operator.podLabels" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
  spec:
    serviceAccountName: {{ .serviceAccountName }}
    automountServiceAccountToken: true
    restartPolicy: Never
    {{- with $root.Values.imagePullSecrets }}
    imagePullSecrets:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext:
      {{- toYaml $root.Values.podSecurityContext | nindent 6 }}
    containers:
      - name: {{ .component }}
        image: {{ include "orginvite-operator.image" $root | quote }}
        imagePullPolicy: {{ $root.Values.image.pullPolicy }}
        args:
          {{- toYaml .args | nindent 10 }}
        terminationMessagePolicy: FallbackToLogsOnError
        resources:
          {{- toYaml $root.Values.resources | nindent 10 }}
        securityContext:
          {{- toYaml $root.Values.securityContext | nindent 10 }}
    {{- include "orginvite-operator.scheduling" $root | nindent 4 }}
{{- end }}
