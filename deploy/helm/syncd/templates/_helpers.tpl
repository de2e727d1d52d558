{{- define "syncd.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "syncd.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "syncd.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "syncd.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "syncd.selector" -}}
app.kubernetes.io/name: {{ include "syncd.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "syncd.labels" -}}
{{ include "syncd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "syncd.secret" -}}
{{- .Values.secret.existing | default (include "syncd.fullname" .) }}
{{- end }}

{{- define "syncd.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "syncd.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "syncd.claim" -}}
{{- .Values.persistence.existingClaim | default (printf "%s-data" (include "syncd.fullname" .)) }}
{{- end }}

{{- define "syncd.image" -}}
{{- with .Values.image.digest }}
{{- printf "%s@%s" $.Values.image.repository . }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* Numbers pass through JSON, which writes a million as 1000000 and not as 1e+06. */}}
{{- define "syncd.settings" -}}
{{- if eq .Values.database "sqlite" }}
SYNCD_DATABASE__URL: sqlite:////var/lib/syncd/syncd.db
{{- end }}
SYNCD_ADMIN__HOST: 0.0.0.0
SYNCD_ADMIN__PORT: "8080"
SYNCD_SECRETS_DIR: /run/secrets/syncd
{{- if .Values.mapping }}
SYNCD_MAPPING_FILE: /etc/syncd/mapping.yaml
{{- end }}
{{- range $section, $parts := .Values.config }}
{{- range $part, $value := $parts }}
SYNCD_{{ upper $section }}__{{ upper $part }}: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The data of the ConfigMap; its checksum replaces the pods. */}}
{{- define "syncd.configmap" -}}
{{ include "syncd.settings" . | trim | nindent 2 }}
{{- with .Values.mapping }}
  mapping.yaml: |
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}

{{/* What the daemon and the migration have in common; call with (list $ name-suffix). */}}
{{- define "syncd.surroundings" -}}
{{- $root := index . 0 }}
{{- $suffix := index . 1 }}
envFrom:
  - configMapRef:
      name: {{ include "syncd.fullname" $root }}{{ $suffix }}
{{- with $root.Values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml $root.Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: secrets
    mountPath: /run/secrets/syncd
    readOnly: true
  - name: tmp
    mountPath: /tmp
  {{- if $root.Values.mapping }}
  - name: mapping
    mountPath: /etc/syncd
    readOnly: true
  {{- end }}
  {{- if eq $root.Values.database "sqlite" }}
  - name: data
    mountPath: /var/lib/syncd
  {{- end }}
  {{- with $root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "syncd.volumes" -}}
{{- $root := index . 0 }}
{{- $suffix := index . 1 }}
- name: secrets
  secret:
    secretName: {{ $root.Values.secret.existing | default (printf "%s%s" (include "syncd.fullname" $root) $suffix) }}
    defaultMode: 0440
    optional: false
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- if $root.Values.mapping }}
- name: mapping
  configMap:
    name: {{ include "syncd.fullname" $root }}{{ $suffix }}
    items:
      - key: mapping.yaml
        path: mapping.yaml
{{- end }}
{{- if eq $root.Values.database "sqlite" }}
- name: data
  persistentVolumeClaim:
    claimName: {{ include "syncd.claim" $root }}
{{- end }}
{{- with $root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
